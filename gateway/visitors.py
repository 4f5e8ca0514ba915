"""Who may use a server that asks for no key: programs of its own machine, and no page of the web.

Such a server listens on loopback, where a browser of the same machine reaches it too. A page can send requests there
without asking (Fetch's "simple" ones), which the browser marks with the page's ``Origin``; and a page whose own name is
made to mean 127.0.0.1 (DNS rebinding; CVE-2024-28224 of another server like this) even reads the answers, and is told
by the name in ``Host``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.errors import ApiError

OWN = (".localhost", ".local", ".internal")
"""Ends of names that no registrar gives away (RFC 6761, RFC 6762, ICANN's resolution of 2024-07-29)."""


def refuse_pages(headers: Mapping[str, str]) -> None:
    """Raises `ApiError` 403 for a request that a page of the web may have sent."""
    for name, url in (("Host", f"http://{headers.get('host', '')}"), ("Origin", headers.get("origin", ""))):
        if url and not _own(url):
            message = (
                f"This server asks for no key, so it answers programs of its own machine only, and '{name}' is "
                f"'{url.removeprefix('http://') if name == 'Host' else url}'. Make a key: sluice keys create."
            )
            raise ApiError(403, message, param=name.lower(), code="foreign_page")


def _own(url: str) -> bool:
    """Whether no site of the web is called so. Origins of other schemes are of installed programs; "null" says
    nothing."""
    try:
        place = urlsplit(url)
        host = (place.hostname or "").rstrip(".")
    except ValueError:
        return False
    if place.scheme not in ("http", "https"):
        return bool(place.scheme)
    return "." not in host or host.endswith(OWN) or _address(host)


def _address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
