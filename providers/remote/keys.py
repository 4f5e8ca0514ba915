"""API keys of remote providers: from the environment, or from a file that is read again when it changes."""

from __future__ import annotations

import os
from pathlib import Path

from providers.base import ProviderError
from schemas.providers import ProviderSettings


class Key:
    """The key of one provider. It is in no message and no log."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._stamp: tuple[int, int, int] | None = None
        self._text = ""

    def __call__(self) -> str | None:
        """The key as it is now, None for a provider without. Raises `ProviderError` where it is missing."""
        settings = self._settings
        if settings.key_env is not None:
            return self._checked(os.environ.get(settings.key_env, ""), f"the variable {settings.key_env}")
        if settings.key_file is None:
            return None
        try:
            status = os.stat(settings.key_file)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._text, self._stamp = Path(settings.key_file).read_text(encoding="ascii"), stamp
        except (OSError, UnicodeDecodeError):
            self._text = ""
        return self._checked(self._text, "its key file")

    def _checked(self, text: str, source: str) -> str:
        key = text.strip()
        if not key or not (key.isascii() and key.isprintable()):
            message = f"Provider `{self._settings.name}` has no usable key in {source}."
            raise ProviderError("unavailable", message, elsewhere=True)
        return key
