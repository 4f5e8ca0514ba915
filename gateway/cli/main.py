"""The command line: ``sluice serve | batch | pull | compile | quantize | config | database | keys | usage | ledger |
plan``.

Commands are told apart before anything heavy is imported: each module here imports what it runs inside ``run``, so that
``sluice --help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from engine.model.errors import ModelError
from gateway.batches.problem import BatchProblem
from gateway.cli import batch as batch_command
from gateway.cli import compile as compile_command
from gateway.cli import config as config_command
from gateway.cli import database as database_command
from gateway.cli import keys as keys_command
from gateway.cli import ledger as ledger_command
from gateway.cli import plan as plan_command
from gateway.cli import pull as pull_command
from gateway.cli import quantize as quantize_command
from gateway.cli import serve as serve_command
from gateway.cli import usage as usage_command
from gateway.config import ConfigError
from gateway.database.errors import DatabaseError
from gateway.keys.problem import KeyProblem
from gateway.ledger.problem import LedgerProblem
from gateway.planning.problem import PlanProblem
from grammar.errors import ConstraintError
from sluice import __version__

COMMANDS = (
    serve_command,
    batch_command,
    pull_command,
    compile_command,
    quantize_command,
    config_command,
    database_command,
    keys_command,
    usage_command,
    ledger_command,
    plan_command,
)

PROBLEMS = (
    BatchProblem,
    ConfigError,
    ConstraintError,
    DatabaseError,
    KeyProblem,
    LedgerProblem,
    ModelError,
    PlanProblem,
)
"""What is wrong with what the user gave, each with a message for them."""


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="sluice",
        description="Serves language models whose answers always match the schema, grammar, regex or choice asked for.",
        epilog="`sluice COMMAND --help` says more. All settings: examples/sluice.toml.",
    )
    root.add_argument("--version", action="version", version=f"sluice {__version__}")
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 refused with a message, 2 wrong usage, 130 interrupted."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except PROBLEMS as error:
        print(f"sluice: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
