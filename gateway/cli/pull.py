"""``sluice pull``: a model onto this machine, before it is needed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from schemas.config import EMBEDDED_MODEL

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "pull",
        help="fetch a model",
        description="Fetches a model, unless it is here already, and prints its path. Built-in models are kept in "
        "$SLUICE_CACHE (default: ~/.cache/sluice).",
    )
    parser.add_argument(
        "model",
        nargs="?",
        default=EMBEDDED_MODEL,
        metavar="MODEL",
        help="a built-in name, or a hub id org/repo[:file] (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from engine.model.store import resolve

    print(resolve(options.model))
    return 0
