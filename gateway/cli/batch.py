"""``sluice batch``: many requests of one file, answered here or at a server."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.batches.bulk import Tally
    from providers.base import Provider
    from schemas.config import Settings

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

KEY_VARIABLE = "SLUICE_API_KEY"


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "batch",
        help="answer a file of requests",
        description="Answers the requests of a file in OpenAI's batch format, one JSON object a line, with the local "
        "engine and without a server, or at one. Answers are written as they come, failures to OUT.errors; the same "
        "command again goes on with what has no answer yet. Exit status 1: something failed.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="requests: custom_id, method, url and body a line")
    parser.add_argument("-o", "--out", type=Path, metavar="OUT", help="answers (default: FILE with .out.jsonl)")
    parser.add_argument("--url", help=f"ask the server there, with the key in ${KEY_VARIABLE}, if it needs one")
    parser.add_argument("--concurrency", type=int, default=16, metavar="N", help="at once (default: %(default)s)")
    parser.add_argument("--config", metavar="FILE", help="settings, as TOML (default: what $SLUICE_CONFIG names)")
    parser.add_argument(
        "--model", action="append", metavar="[NAME=]MODEL", help="as for `sluice serve`; may be repeated"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from gateway.config import ConfigError

    if options.concurrency < 1:
        raise ConfigError(f"--concurrency {options.concurrency}: at least 1")
    if options.url and (options.model or options.config):
        raise ConfigError("--url asks a server, which has its own models and settings: no --model or --config")
    tally = asyncio.run(_at_server(options)) if options.url else _here(options)
    print(f"{tally}{f': see {_out(options)}.errors' if tally.failed else ''}", file=sys.stderr)
    return 1 if tally.failed else 0


def _here(options: argparse.Namespace) -> Tally:
    from msgspec.structs import replace

    from engine.model.store import resolve
    from gateway import config
    from gateway.batches.problem import BatchProblem
    from gateway.cli.serve import named
    from providers.base import ProviderError
    from providers.local import LocalProvider

    named_models = {"models": [named(model) for model in options.model]} if options.model else {}
    settings = config.load(options.config, os.environ, named_models)
    models = tuple(replace(model, path=str(resolve(model.path))) for model in settings.models)
    settings = replace(settings, models=models, files=replace(settings.files, store=False))
    local = LocalProvider(settings)
    local.launch()
    try:
        return asyncio.run(_in_process(options, settings, local))
    except ProviderError as error:
        raise BatchProblem(error.message) from None
    finally:
        local.kill()


async def _in_process(options: argparse.Namespace, settings: Settings, local: Provider) -> Tally:
    from functools import partial

    from gateway import logs
    from gateway.app import assemble
    from gateway.batches.bulk import Bulk
    from gateway.batches.in_process import running
    from gateway.models import find_model

    logs.configure("warning")
    assembled = assemble(local, settings)
    async with running(assembled.app) as asking:
        bulk = Bulk(
            options.file,
            _out(options),
            partial(find_model, assembled.provider),
            max_bytes=settings.server.max_body_bytes,
            say=sys.stderr,
        )
        return await bulk.run(asking, options.concurrency)


async def _at_server(options: argparse.Namespace) -> Tally:
    import httpx

    from gateway.batches.bulk import AtServer, Bulk
    from schemas.config import Server

    async with httpx.AsyncClient(timeout=None) as client:
        bulk = Bulk(options.file, _out(options), str, max_bytes=Server().max_body_bytes, say=sys.stderr)
        return await bulk.run(AtServer(options.url, os.environ.get(KEY_VARIABLE), client), options.concurrency)


def _out(options: argparse.Namespace) -> Path:
    return options.out or options.file.with_suffix(".out.jsonl")
