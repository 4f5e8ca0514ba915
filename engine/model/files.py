"""Opening a model: one path in, everything that is read from it out. Imports no torch, so that the HTTP side may use
it.

open_model("model.gguf")      config, weights, tokenizer and chat template all come from the one file
open_model("folder/")         config.json, *.safetensors, tokenizer.json, tokenizer_config.json
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from engine.model.chat_template import ChatTemplate
from engine.model.config import ModelConfig
from engine.model.errors import ModelFileError
from engine.model.folder_config import config_from_folder, folder_quantization
from engine.model.gguf import GgufFile
from engine.model.gguf_config import config_from_gguf
from engine.model.tokenizer import Tokenizer
from engine.model.weights import GgufWeights, SafetensorsWeights


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """An opened model. Each method reads the files anew; hold on to what it returns."""

    path: str
    config: ModelConfig
    gguf: GgufFile | None
    """The open file, or None when ``path`` is a folder."""

    def weights(self) -> GgufWeights | SafetensorsWeights:
        """Weights by Hugging Face name. ModelFileError or UnsupportedModelError when they do not fit the config."""
        if self.gguf is None:
            return SafetensorsWeights(self.path, self.config, folder_quantization(self.path))
        return GgufWeights(self.gguf, self.config)

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_folder(self.path) if self.gguf is None else Tokenizer.from_gguf(self.gguf)

    def chat_template(self) -> ChatTemplate | None:
        """The model's own template, or None where it has none (a base model)."""
        return ChatTemplate.from_folder(self.path) if self.gguf is None else ChatTemplate.from_gguf(self.gguf)


def open_model(path: str | os.PathLike[str]) -> ModelFiles:
    """Open a GGUF file or a folder with safetensors. Reads headers only.

    ModelFileError: nothing there, or malformed. UnsupportedModelError: a model this engine does not run.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        folder_quantization(path)  # refuses here what could not be read later
        return ModelFiles(path, config_from_folder(path), None)
    if not os.path.exists(path):
        raise ModelFileError(f"{path}: there is no such file or folder")
    file = GgufFile(path)
    return ModelFiles(path, config_from_gguf(file), file)
