"""What can go wrong with a model, each with the place that is wrong in its message.

ModelError
├── ModelFileError         a file is missing, cut off or malformed
├── UnsupportedModelError  the files are well formed, but ask for something this engine does not do
└── ChatTemplateError      a chat template cannot be compiled, or refuses or breaks on the messages it is given
"""

from __future__ import annotations


class ModelError(Exception):
    """A model cannot be opened or used."""


class ModelFileError(ModelError):
    """A model file is missing or malformed; the message starts with its path."""


class UnsupportedModelError(ModelError):
    """A well-formed model has a feature that this engine does not have; the message names the feature and where it
    stands.
    """


class ChatTemplateError(ModelError):
    """A chat template is invalid, raised an exception of its own, or cannot render the messages given."""
