"""``sluice serve``: the settings, then the models, then the server."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.config import Settings

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve models over the OpenAI API",
        description="Serves models over the OpenAI API, by default the built-in one on http://127.0.0.1:8000/v1. "
        "Options win over SLUICE_<SECTION>__<KEY> variables, and these over the file.",
    )
    parser.add_argument("--config", metavar="FILE", help="settings, as TOML (default: what $SLUICE_CONFIG names)")
    parser.add_argument("--host", help="address to listen on; others than loopback need API keys (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for a free one (default: 8000)")
    parser.add_argument(
        "--model",
        action="append",
        metavar="[NAME=]MODEL",
        help="a built-in name, a GGUF file, a safetensors folder, or a hub id org/repo[:file]; NAME is what requests "
        "call it; may be repeated; replaces the models of the settings",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from msgspec.structs import replace

    from engine.model.store import resolve
    from gateway import config

    def load() -> Settings:
        return config.load(options.config, os.environ, overrides(options))

    told = load()
    refuse_taken(told.server.host, told.server.port)
    models = tuple(replace(model, path=str(resolve(model.path))) for model in told.models)

    from gateway.database.place import default_url
    from providers.local import LocalProvider

    database = replace(told.database, url=told.database.url or default_url())
    settings = replace(told, models=models, database=database)
    local = LocalProvider(settings)
    local.launch()
    try:
        from gateway import server  # which takes as long to import as a model to load
        from gateway.reloading import Reloading

        asyncio.run(_migrated(settings))
        file = config.file_of(options.config, os.environ)
        server.run(settings, local, Reloading(told, load, file if told.server.watch else None))
    finally:
        local.kill()
    return 0


async def _migrated(settings: Settings) -> None:
    """Bring the tables to this version's before there is a server, which could only fail with a traceback. Raises
    `DatabaseError`."""
    from gateway.database.place import database_at

    database = database_at(settings.database.url)
    try:
        await database.open()
    finally:
        await database.aclose()


def refuse_taken(host: str, port: int) -> None:
    """Models take a while to load: an address that cannot be had is told before. Raises `ConfigError`."""
    import errno
    import socket

    from gateway.config import ConfigError

    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:  # the server listens on the families that there are
            raise ConfigError(f"{host}:{port} cannot be listened on: {error.strerror}") from None


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say, in the shape of the settings file."""
    server = {key: value for key in ("host", "port") if (value := getattr(options, key)) is not None}
    found: dict[str, Any] = {"server": server} if server else {}
    if options.model:
        found["models"] = [named(model) for model in options.model]
    return found


def named(option: str) -> dict[str, str]:
    """``NAME=MODEL``; without a name, a file or folder is called as it is called on disk, others by their id."""
    name, equals, path = option.rpartition("=")
    if not equals:
        on_disk = PurePath(path.rpartition(":")[2]).name.removesuffix(".gguf")
        name = on_disk if path.endswith(".gguf") or os.path.exists(path) else path
    return {"name": name, "path": path}
