"""torch's tensors as leaves of a state: their forms, their bytes, and tensors made of bytes again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import SchemaError
from stockroom.repository.structure import measure_element
from stockroom.shelves.tensor_library import TensorForm

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "this was stored as torch tensors, which need PyTorch: install it with `pip install stockroom[torch]`, or read "
        "numpy arrays with `.load(as_numpy=True)`",
        name=error.name,
    ) from error

_QUANTISED: Final = {torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4}


class TorchLibrary:
    """The `TensorLibrary` of torch."""

    def describe(self, tensor: torch.Tensor, *, where: str) -> TensorForm:
        """Its form; `SchemaError` naming `where` if it is sparse, quantised, nested, meta or of an odd dtype."""
        _check_plain(tensor, where)
        name = str(tensor.dtype).removeprefix("torch.")
        try:
            itemsize = measure_element(name)
        except SchemaError as error:
            raise SchemaError(f"{where}: torch dtype {name} cannot be stored; convert it with `.to(...)`") from error
        storage = tensor.untyped_storage()
        memory = (str(tensor.device), storage.data_ptr(), storage.nbytes())
        return TensorForm(
            name, itemsize, tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()), memory
        )

    def iter_bytes(self, tensor: torch.Tensor, nbytes: int) -> Iterator[NDArray[np.uint8]]:
        """The raw bytes in C order; from another device piece by piece."""
        plain = tensor.detach().resolve_conj().resolve_neg()
        if not plain.numel():
            return
        if plain.is_contiguous():
            yield from _iter_flat(plain, int(plain.storage_offset()), plain.numel(), nbytes)
            return
        row_nbytes = plain.element_size() * math.prod(plain.shape[1:])
        rows = max(1, nbytes // max(row_nbytes, 1))
        for start in range(0, plain.shape[0], rows):
            part = plain[start : start + rows].contiguous()
            yield from _iter_flat(part, int(part.storage_offset()), part.numel(), nbytes)

    def iter_memory(self, tensor: torch.Tensor, span: tuple[int, int], nbytes: int) -> Iterator[NDArray[np.uint8]]:
        """The raw bytes of elements of the storage that a tensor lies in."""
        start, stop = span
        yield from _iter_flat(tensor.detach(), start, stop - start, nbytes)

    def make(self, data: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
        """A tensor on the memory of `data`."""
        kind: Any = getattr(torch, dtype, None)
        if kind is None:
            raise SchemaError(f"this torch has no dtype {dtype}: upgrade it, or read with `.load(as_numpy=True)`")
        if not len(data):
            return torch.empty(shape, dtype=kind)
        return torch.from_numpy(data).view(kind).reshape(shape)

    def make_strided(
        self, base: torch.Tensor, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
    ) -> torch.Tensor:
        """A tensor that lies in the memory of `base`, a tensor of one axis."""
        return base.as_strided(shape, strides, base.storage_offset() + offset)

    def alias(self, tensor: torch.Tensor) -> torch.Tensor:
        """Another tensor on the same memory."""
        return tensor.detach()


def _check_plain(tensor: torch.Tensor, where: str) -> None:
    if tensor.is_quantized or tensor.dtype in _QUANTISED:
        raise SchemaError(f"{where}: a quantised tensor cannot be stored; give `.dequantize()` or `.int_repr()`")
    if tensor.is_nested or tensor.layout is not torch.strided:
        raise SchemaError(f"{where}: expected a dense tensor, found {tensor.layout}; give `.to_dense()`")
    if tensor.is_meta:
        raise SchemaError(f"{where}: a tensor on the meta device has no values")
    if hasattr(tensor, "__tensor_flatten__"):
        raise SchemaError(f"{where}: {type(tensor).__name__} wraps other tensors; give them one by one")


def _iter_flat(tensor: torch.Tensor, start: int, count: int, nbytes: int) -> Iterator[NDArray[np.uint8]]:
    """The bytes of `count` elements of a tensor's storage from element `start` on, flat."""
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
