"""Reads PyTorch's checkpoints without executing anything from them."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Final

import torch

from stockroom.errors import CorruptionError, InvalidInputError

_SAFE_SINCE: Final = (2, 6)
"""Before this version, `weights_only=True` could be made to run code (CVE-2025-32434)."""

_NAMED: Final = re.compile(r"GLOBAL ([\w.]+)")


def read_checkpoint(path: Path) -> object:
    """Load a file of `torch.save`: tensors in plain containers, on the host, mapped if the file allows it.

    Raises `InvalidInputError` for a file that asks for code or is a program, without executing any of it;
    `CorruptionError` for a damaged one.
    """
    found = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
    if found < _SAFE_SINCE:
        raise InvalidInputError(
            f"{path}: reading checkpoints safely needs PyTorch 2.6 or later, found {torch.__version__}; upgrade it"
        )
    path.open("rb").close()  # an unreadable file raises the operating system's own error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that are rejected anyway
            loaded: object = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a hostile file can make the reader raise anything
        raise _translate(path, error) from error
    return loaded


def _translate(path: Path, error: Exception) -> Exception:
    text = str(error)
    if isinstance(error, pickle.UnpicklingError):
        named = _NAMED.search(text)
        what = f"{named[1]}, which is code" if named else "objects that PyTorch cannot read safely"
        return InvalidInputError(
            f"{path}: expected tensors in plain containers, found {what}; nothing was executed; if you trust the file, "
            "load it yourself and save only its `state_dict()`"
        )
    if "TorchScript" in text:
        return InvalidInputError(
            f"{path}: expected a checkpoint, found a TorchScript program; nothing was executed; if you trust the file, "
            "load it yourself and save only its `state_dict()`"
        )
    why = f" ({text.splitlines()[0].partition('. ')[0]})" if isinstance(error, RuntimeError) and text else ""
    return CorruptionError(f"{path}: not a complete PyTorch checkpoint{why}; download the file again", where=str(path))
