"""torch's tensors as leaves of a state: their forms, their bytes, and tensors made from bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.nodes import measure_element
from stockroom.errors import SchemaError
from stockroom.shelves.model.tensor_library import TensorInfo

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "this was stored as torch tensors, which need PyTorch: install it with `pip install 'stockroom-vcs[torch]'`, "
        "or read numpy arrays with `.load(as_numpy=True)`",
        name=error.name,
    ) from error

_QUANTISED: Final = {torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4}
_WORDS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class TorchLibrary:
    """The `TensorLibrary` of torch."""

    def describe(self, tensor: torch.Tensor, *, where: str) -> TensorInfo:
        """Return its info. Raises `SchemaError` if it is sparse, quantized, nested, meta, lazy or of an unknown dtype.

        Errors name `where`. Memory read as its conjugate or negative counts as different from the same memory read
        directly.
        """
        _check_plain(tensor, where)
        name = str(tensor.dtype).removeprefix("torch.")
        try:
            itemsize = measure_element(name)
        except SchemaError as error:
            raise SchemaError(f"{where}: torch dtype {name} cannot be stored; convert it with `.to(...)`") from error
        storage = tensor.untyped_storage()
        memory = (str(tensor.device), storage.data_ptr(), storage.nbytes(), tensor.is_conj(), tensor.is_neg())
        return TensorInfo(
            name, itemsize, tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()), memory
        )

    def iter_bytes(self, tensor: torch.Tensor, nbytes: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the raw bytes in C order; from another device, piece by piece."""
        plain = _resolve(tensor.detach())
        if not plain.numel():
            return
        if plain.is_contiguous():
            yield from _iter_flat(plain, int(plain.storage_offset()), plain.numel(), nbytes)
            return
        plain = _as_words(plain)
        row_nbytes = plain.element_size() * math.prod(plain.shape[1:])
        rows = max(1, nbytes // max(row_nbytes, 1))
        for start in range(0, plain.shape[0], rows):
            part = plain[start : start + rows].contiguous()
            yield from _iter_flat(part, int(part.storage_offset()), part.numel(), nbytes)

    def iter_memory(self, tensor: torch.Tensor, span: tuple[int, int], nbytes: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the raw bytes of the elements `span` of a tensor's storage, as the tensor reads them."""
        start, stop = span
        plain = tensor.detach()
        if plain.is_conj() or plain.is_neg():
            plain = _resolve(plain.as_strided((stop - start,), (1,), start))
            start = int(plain.storage_offset())
        yield from _iter_flat(plain, start, stop - span[0], nbytes)

    def make(self, data: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a tensor on the memory of `data`."""
        kind: Any = getattr(torch, dtype, None)
        if kind is None:
            raise SchemaError(f"this torch has no dtype {dtype}; upgrade it, or read with `.load(as_numpy=True)`")
        if not len(data):
            return torch.empty(shape, dtype=kind, device="cpu")  # whatever the current default device is
        return torch.from_numpy(data).view(kind).reshape(shape)

    def make_strided(
        self, base: torch.Tensor, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
    ) -> torch.Tensor:
        """Return a tensor in the memory of `base`, a tensor of one axis."""
        return base.as_strided(shape, strides, base.storage_offset() + offset)

    def take_rows(self, tensor: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
        """Return a tensor of the elements of axis 0 at `rows`, in memory of its own."""
        return _as_words(tensor)[torch.from_numpy(rows)].view(tensor.dtype)

    def alias(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return another tensor on the same memory."""
        return tensor.detach()


def _check_plain(tensor: torch.Tensor, where: str) -> None:
    if torch.nn.parameter.is_lazy(tensor):
        raise SchemaError(f"{where}: a lazy module's parameter has no values before the first call")
    if tensor.is_quantized or tensor.dtype in _QUANTISED:
        raise SchemaError(f"{where}: a quantized tensor cannot be stored; store `.dequantize()` or `.int_repr()`")
    if tensor.is_nested or tensor.layout is not torch.strided:
        raise SchemaError(f"{where}: expected a dense tensor, found {tensor.layout}; store `.to_dense()`")
    if tensor.is_meta:
        raise SchemaError(f"{where}: a tensor on the meta device has no values")
    if hasattr(tensor, "__tensor_flatten__"):
        raise SchemaError(f"{where}: {type(tensor).__name__} wraps other tensors; store them one by one")


def _resolve(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor with conjugation and negation carried out; itself if there is none."""
    return tensor.resolve_conj().resolve_neg()


def _as_words(tensor: torch.Tensor) -> torch.Tensor:
    """View the memory as plain integers, which torch can copy and index whatever the dtype."""
    words = _WORDS.get(tensor.element_size())
    return tensor if words is None else tensor.view(words)


def _iter_flat(tensor: torch.Tensor, start: int, count: int, nbytes: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of `count` elements of a tensor's storage from element `start` on, flat."""
    size = tensor.element_size()
    raw = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(
        tensor.untyped_storage(), start * size, (count * size,), (1,)
    )
    if raw.device.type == "cpu":
        yield raw.numpy()
        return
    step = max(size, nbytes // size * size)
    for at in range(0, count * size, step):
        yield raw[at : at + step].cpu().numpy()
