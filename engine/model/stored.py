"""In which format a model's files store each matrix, by the names of `engine.model.footprint`."""

from __future__ import annotations

from collections.abc import Callable

from engine.model.files import ModelFiles
from engine.model.folder_config import folder_quantization
from engine.model.footprint import STORED
from engine.model.weights import GgufWeights

GROUP = 128
"""Of 4-bit checkpoints whose weights are not looked at."""


def stored_formats(files: ModelFiles) -> Callable[[str], str]:
    """Name of a matrix → name of its format. Of a folder only config.json is read: 4 bits are taken to have groups of
    128."""
    if files.gguf is not None:
        weights = GgufWeights(files.gguf, files.config)

        def of_file(name: str) -> str:
            kind = weights.packed(name).type
            return STORED.get(kind, kind)

        return of_file
    quantization = folder_quantization(files.path)
    if quantization is None:
        return lambda name: "bf16"
    layers = f"int4-g{GROUP}" if quantization.bits <= 4 else "int8"
    return lambda name: layers if name.startswith("model.layers.") else "bf16"
