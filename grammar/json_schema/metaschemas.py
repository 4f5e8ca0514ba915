"""The metaschemas of all drafts and their vocabularies, which every schema may refer to.

They are those of the package `jsonschema-specifications`, as their authors publish them.
It is imported when a reference leaves the documents at hand: few do, and loading it takes longer than to
compile most schemas.
"""

from __future__ import annotations

from typing import Any


def metaschema(uri: str) -> Any | None:
    """The decoded metaschema or vocabulary of a URI without fragment, None if there is none such."""
    if not uri.startswith(("http://json-schema.org/draft-0", "https://json-schema.org/draft/20")):
        return None
    from jsonschema_specifications import REGISTRY

    resource = REGISTRY.get(uri)
    return None if resource is None else resource.contents
