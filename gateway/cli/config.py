"""``sluice config check`` and ``sluice config hash-key``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("config", help="check settings, hash API keys", description="Works on settings.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    check = actions.add_parser(
        "check",
        help="check settings and print them",
        description="Reads the settings as `sluice serve` would, and prints all of them as JSON, defaults included. "
        "What is wrong is named with its key, and the exit status is 1.",
    )
    check.add_argument("file", nargs="?", metavar="FILE", help="settings, as TOML (default: what $SLUICE_CONFIG names)")
    check.set_defaults(run=run_check)

    hash_key = actions.add_parser(
        "hash-key",
        help="print what the settings keep of an API key",
        description="Reads an API key from standard input and prints its SHA-256 for `auth.keys`, so that the key "
        "itself is written down nowhere. Make one with: openssl rand -hex 32",
    )
    hash_key.set_defaults(run=run_hash_key)


def run_check(options: argparse.Namespace) -> int:
    import msgspec

    from gateway import config

    settings = config.load(options.file, os.environ)
    print(msgspec.json.format(msgspec.json.encode(settings), indent=2).decode())
    return 0


def run_hash_key(options: argparse.Namespace) -> int:
    from getpass import getpass

    from gateway import config

    key = getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()
    print(config.hash_key(key.rstrip("\r\n")))
    return 0
