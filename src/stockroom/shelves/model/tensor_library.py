"""Where torch's tensors come from and go to, without this layer importing torch: a library is loaded by its name.

Giving a tensor takes torch anyway; only making one again loads it, and only where one was stored.
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
class TensorForm:
    """What a tensor is and where it lies; `strides` and `offset` count elements, from the start of its `memory`."""

    dtype: str
    itemsize: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    memory: object

    @property
    def span(self) -> int:
        """Elements from its first to its last in memory, both counted."""
        return 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class RawTensor:
    """A torch tensor's raw bytes in C order, flat uint8, which can be saved where there is no torch."""

    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]


class TensorLibrary(Protocol):
    """What Stockroom asks of torch."""

    def describe(self, tensor: Any, *, where: str) -> TensorForm:
        """Its form; `SchemaError` naming `where` for a tensor without plain values."""
        ...

    def iter_bytes(self, tensor: Any, nbytes: int) -> Iterator[NDArray[np.uint8]]:
        """The raw bytes in C order, flat, in pieces of at most about `nbytes`; on the host, views where they can be."""
        ...

    def iter_memory(self, tensor: Any, span: tuple[int, int], nbytes: int) -> Iterator[NDArray[np.uint8]]:
        """The raw bytes of the elements `span` of the memory that a tensor lies in, likewise."""
        ...

    def make(self, data: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> Any:
        """A tensor on the memory of `data`."""
        ...

    def make_strided(self, base: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Any:
        """A tensor that lies in the memory of `base`, a tensor of one axis."""
        ...

    def take_rows(self, tensor: Any, rows: NDArray[np.int64]) -> Any:
        """A tensor of the elements of axis 0 at `rows`, on memory of its own."""
        ...

    def alias(self, tensor: Any) -> Any:
        """Another tensor on the same memory."""
        ...


def is_tensor(value: object) -> bool:
    """Whether `value` is a torch tensor; only a caller that has imported torch can have one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


@cache
def load_torch() -> TensorLibrary:
    """torch; `ModuleNotFoundError` saying what to install where there is none."""
    library: TensorLibrary = importlib.import_module(_MODULE).TorchLibrary()
    return library
