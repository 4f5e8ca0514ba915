"""Reads the settings: defaults, then one TOML file, then the environment, then the command line; later ones win.

    SLUICE_SERVER__PORT=9000                    one key of a section, as `section.key`
    SLUICE_MODELS='[{"name": ..., "path": ...}]' a whole list, as JSON
    SLUICE_CONFIG=/etc/sluice.toml              the file, where the command line names none

A variable with two underscores that names no setting is refused, as an unknown key of the file is. Others that start
with ``SLUICE_`` are left alone: orchestrators inject such names (``SLUICE_PORT=tcp://...``) for a service called
sluice.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect
from msgspec.structs import fields

from schemas.config import Settings

PREFIX = "SLUICE_"
MIN_KEY_LENGTH = 20

_SECTIONS: dict[str, Any] = {
    field.name: field.type for field in fields(Settings) if isinstance(field.default, msgspec.Struct)
}
_LISTS: dict[str, Any] = {field.name: field.type for field in fields(Settings) if field.name not in _SECTIONS}


class ConfigError(ValueError):
    """Settings that cannot be used. The message names the file or variable, and the key as ``section.key``."""


def load(
    path: str | Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Mapping[str, Any] | list[Any]] | None = None,
) -> Settings:
    """The settings from ``path`` (None: the file that ``SLUICE_CONFIG`` names, if any), ``environ`` and ``overrides``.

    ``overrides`` has the shape of the file: section → key → value, and lists whole.

    Raises:
        ConfigError: a file that cannot be read, a key that does not exist, a value of the wrong type or out of range,
            or a server that would be open to other machines.
    """
    source = file_of(path, environ)
    merged = _read(source) if source else {}
    origins: dict[str, str] = {}
    for variable, place, value in _from_environment(environ):
        _put(merged, place, value, origin=str(source))
        origins[".".join(place)] = variable
    for section, values in (overrides or {}).items():
        places = (
            {(section, key): value for key, value in values.items()}
            if isinstance(values, Mapping)
            else {(section,): values}
        )
        for place, value in places.items():
            _put(merged, place, value, origin=str(source))
            origins[".".join(place)] = "command line"
    try:
        settings = msgspec.convert(merged, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), str(source or "settings"), origins)) from None
    refuse_open_door(settings)
    return settings


def file_of(path: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that settings are read from, if there is one."""
    source = path or environ.get("SLUICE_CONFIG")
    return Path(source) if source else None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, tuple[str, ...], Any]]:
    """(variable, place, value) of every variable that is a setting."""
    found: list[tuple[str, tuple[str, ...], Any]] = []
    for variable, text in sorted(environ.items()):
        place = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        if not variable.startswith(PREFIX) or (len(place) == 1 and place[0] not in _LISTS):
            continue
        kind = _LISTS[place[0]] if len(place) == 1 else _type_at(variable, place)
        found.append((variable, place, _from_text(text, kind)))
    return found


def _type_at(variable: str, place: tuple[str, ...]) -> Any:
    known = {f"{section}.{field.name}": field.type for section, struct in _SECTIONS.items() for field in fields(struct)}
    name = ".".join(place)
    if name not in known:
        raise ConfigError(f"{variable}: `{name}` is not a setting{_nearest(name, list(known))}")
    return known[name]


def _from_text(text: str, kind: Any) -> Any:
    """``text`` itself where the setting is a string, else the JSON value it spells; the type check judges the rest."""
    try:
        return msgspec.convert(text, kind)
    except msgspec.ValidationError:
        pass
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _put(merged: dict[str, Any], place: tuple[str, ...], value: Any, origin: str) -> None:
    table = merged
    for section in place[:-1]:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{origin}: `{section}`: Expected a table, got `{type(table).__name__}`")
    table[place[-1]] = value


def _explain(message: str, source: str, origins: Mapping[str, str]) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.server.port`", turned to "FILE: `server.port`: Expected ..."."""
    text, _, where = message.partition(" - at `$")
    place = where.removesuffix("`").removeprefix(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text)
    if unknown:
        siblings = _keys_at(place)
        place = f"{place}.{unknown[1]}".removeprefix(".")
        text = f"there is no such key{_nearest(unknown[1], siblings)}"
    origin = next(
        (variable for name, variable in origins.items() if re.match(rf"{re.escape(name)}(\W|$)", place)), source
    )
    return f"{origin}: `{place}`: {text}" if place else f"{origin}: {text}"


def _keys_at(place: str) -> list[str]:
    """Names of the keys of the table at ``place``, such as "server" or "models[0]"."""
    info = msgspec.inspect.type_info(Settings)
    for step in re.findall(r"\w+|\[[^]]*\]", place):
        if isinstance(info, msgspec.inspect.StructType) and not step.startswith("["):
            info = next(field.type for field in info.fields if field.name == step)
        if isinstance(info, msgspec.inspect.VarTupleType):
            info = info.item_type if step.startswith("[") else info
    return [field.name for field in info.fields] if isinstance(info, msgspec.inspect.StructType) else []


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def refuse_open_door(settings: Settings) -> None:
    """Raises `ConfigError` for a server that other machines can reach and that asks for no key."""
    host = settings.server.host
    if settings.auth.keys or settings.auth.required or is_loopback(host):
        return
    raise ConfigError(
        f"`server.host` is {host}, which other machines can reach, and `auth.keys` is empty, so anybody could use the "
        "server. Add a key (`sluice config hash-key` prints what to write), set `auth.required` and make keys in the "
        "database (`sluice keys create`), or listen on 127.0.0.1."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``: "localhost" or a loopback address. Other names may be reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def hash_key(key: str) -> str:
    """What `auth.keys` keeps of an API key: its SHA-256, in hex. A fast hash protects only what cannot be guessed.

    Raises:
        ConfigError: a key that could be guessed, or that no HTTP header can carry.
    """
    if len(key) < MIN_KEY_LENGTH:
        raise ConfigError(f"an API key needs {MIN_KEY_LENGTH} characters or more, this one has {len(key)}")
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigError("an API key is of printable ASCII characters without spaces, to fit into an HTTP header")
    return hashlib.sha256(key.encode("ascii")).hexdigest()
