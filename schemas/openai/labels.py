"""``metadata``: labels that clients put on what is kept for them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Labels = Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
