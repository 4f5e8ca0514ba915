"""``python -m sluice``: the command line where no console script is installed."""

import sys

from gateway.cli.main import main

sys.exit(main())
