"""Reads a model from a file, in the format that its ending names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stockroom.errors import InvalidInputError

_TORCH_MODULE: Final = "stockroom.torch.checkpoint"
_SAFETENSORS: Final = ".safetensors"
_ENDINGS: Final = (_SAFETENSORS, ".pt", ".pth", ".bin", ".ckpt", ".pth.tar")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The content of a file: a state to save, whose tensors are still in the file, and the metadata of the file."""

    state: object
    metadata: Mapping[str, Any]


def read_model_file(path: Path) -> ModelFile:
    """Read the model in a `.safetensors` file or PyTorch checkpoint (`.pt`, `.pth`, `.bin`, `.ckpt`, `.pth.tar`).

    Nothing in the file is ever executed, and its tensors are mapped, not read. Raises `InvalidInputError` for files of
    another kind, for pickles that ask for code, and if a library is missing; `CorruptionError` for damaged files.
    """
    ending = _choose_ending(path)
    if not path.is_file():
        raise InvalidInputError(f"{path}: {'expected a file, found a folder' if path.is_dir() else 'no such file'}")
    return _read_safetensors(path) if ending == _SAFETENSORS else _read_checkpoint(path)


def name_model(path: Path) -> str:
    """Return the name for a model from a file: the file's name without its ending."""
    return path.name[: -len(_choose_ending(path))]


def _choose_ending(path: Path) -> str:
    found = next((ending for ending in _ENDINGS if path.name.lower().endswith(ending)), None)
    if found is None:
        raise InvalidInputError(f"expected a file ending in {', '.join(_ENDINGS)}, found {path}")
    return found


def _read_safetensors(path: Path) -> ModelFile:
    from stockroom.interop.safetensors_reader import read_safetensors

    return ModelFile(*read_safetensors(path))


def _read_checkpoint(path: Path) -> ModelFile:
    try:
        module = importlib.import_module(_TORCH_MODULE)
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"{path}: reading checkpoints needs PyTorch: install it with `pip install 'stockroom-vcs[torch]'`, or "
            "use a .safetensors file"
        ) from error
    read: Callable[[Path], object] = module.read_checkpoint
    return ModelFile(read(path), {})
