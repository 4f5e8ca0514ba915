"""What can be wrong with a database as a whole."""

from __future__ import annotations


class DatabaseError(Exception):
    """A database that cannot be used. The message names it, without a password."""
