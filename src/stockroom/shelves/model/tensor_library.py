"""An interface to torch for a layer that must not import it: the library is loaded by its module's name.

A caller who gives a tensor has imported torch. Only making a tensor loads it, and only if a torch tensor was stored.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

_MODULE: Final = "stockroom.torch.leaves"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """The type and memory layout of a tensor; `strides` and `offset` count elements of its `memory`."""

    dtype: str
    itemsize: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    memory: object

    @property
    def span(self) -> int:
        """The number of elements in memory from its first to its last, inclusive."""
        return 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class RawTensor:
    """A torch tensor's raw bytes in C order, flat uint8; can be saved without torch."""

    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]


class TensorLibrary(Protocol):
    """The operations that Stockroom needs from torch."""

    def describe(self, tensor: Any, *, where: str) -> TensorInfo:
        """Return the tensor's info; raises `SchemaError` naming `where` for a tensor without plain values."""
        ...

    def iter_bytes(self, tensor: Any, nbytes: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the raw bytes in C order, flat, in pieces of about `nbytes` at most; on the host, views if possible."""
        ...

    def iter_memory(self, tensor: Any, span: tuple[int, int], nbytes: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the raw bytes of the elements `span` of the memory that a tensor uses, in the same way."""
        ...

    def make(self, data: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> Any:
        """Return a tensor on the memory of `data`."""
        ...

    def make_strided(self, base: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Any:
        """Return a tensor in the memory of `base`, a tensor of one axis."""
        ...

    def take_rows(self, tensor: Any, rows: NDArray[np.int64]) -> Any:
        """Return a tensor of the elements of axis 0 at `rows`, on its own memory."""
        ...

    def alias(self, tensor: Any) -> Any:
        """Return another tensor on the same memory."""
        ...


def is_tensor(value: object) -> bool:
    """Return whether `value` is a torch tensor; only a caller that has imported torch can have one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


@cache
def load_torch() -> TensorLibrary:
    """Return the torch library; raises `ModuleNotFoundError` saying what to install if torch is not there."""
    library: TensorLibrary = importlib.import_module(_MODULE).TorchLibrary()
    return library
