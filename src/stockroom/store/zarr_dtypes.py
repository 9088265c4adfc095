"""Zarr data types that zarr-python lacks: bfloat16 and the float8 family, by their registered Zarr names.

They are published through the `zarr.data_type` entry points in `pyproject.toml`, and registered when this module is
imported. zarr-python 3.1 lists those entry points without loading them, so a program that opens such a pack with plain
zarr must import this module first. Source: the zarr-extensions registry of data types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import ml_dtypes
import numpy as np
from zarr.core.dtype import data_type_registry
from zarr.core.dtype.common import DataTypeValidationError, HasEndianness, HasItemSize
from zarr.core.dtype.wrapper import ZDType


@dataclass(frozen=True, kw_only=True)
class _MlFloat(ZDType[Any, Any], HasItemSize):
    """A float of at most 16 bits whose numpy dtype comes from ml_dtypes. Scalars are JSON numbers, names or bits."""

    _native: ClassVar[np.dtype[Any]]

    @classmethod
    def from_native_dtype(cls, dtype: np.dtype[Any]) -> Self:
        if dtype == cls._native:
            return cls()
        raise DataTypeValidationError(f"expected {cls._native}, found {dtype}")

    def to_native_dtype(self) -> np.dtype[Any]:
        return self._native

    @classmethod
    def _from_json_v2(cls, data: Any) -> Self:
        raise DataTypeValidationError(f"{cls._zarr_v3_name} exists in Zarr format 3 only, found {data!r}")

    @classmethod
    def _from_json_v3(cls, data: Any) -> Self:
        if data == cls._zarr_v3_name:
            return cls()
        raise DataTypeValidationError(f"expected {cls._zarr_v3_name!r}, found {data!r}")

    def to_json(self, zarr_format: int) -> Any:
        if zarr_format == 3:
            return self._zarr_v3_name
        raise ValueError(f"{self._zarr_v3_name} exists in Zarr format 3 only, not {zarr_format}")

    def _check_scalar(self, data: object) -> bool:
        return isinstance(data, int | float | np.number | self._native.type)

    def cast_scalar(self, data: object) -> Any:
        return self._native.type(data)

    def default_scalar(self) -> Any:
        return self._native.type(0)

    def from_json_scalar(self, data: Any, *, zarr_format: int) -> Any:  # noqa: ARG002 - zarr's signature
        if isinstance(data, str) and data.startswith("0x"):
            bits = int(data, 16).to_bytes(self._native.itemsize, "little")
            return np.frombuffer(bits, self._native)[0]
        return self._native.type(float(data))

    def to_json_scalar(self, data: object, *, zarr_format: int) -> Any:  # noqa: ARG002 - zarr's signature
        scalar = self._native.type(data)
        if self._native.itemsize == 1:  # as bits: the only form that every reader of float8 accepts
            return f"0x{scalar.tobytes()[0]:02x}"
        value = float(scalar)
        if np.isfinite(value):
            return value
        return "NaN" if np.isnan(value) else ("Infinity" if value > 0 else "-Infinity")

    @property
    def item_size(self) -> int:
        return self._native.itemsize


def _declare(name: str) -> type[_MlFloat]:
    native = np.dtype(getattr(ml_dtypes, name))
    bases = (_MlFloat,) if native.itemsize == 1 else (_MlFloat, HasEndianness)
    body = {"_zarr_v3_name": name, "_native": native, "dtype_cls": type(native), "__doc__": f"Zarr's {name}."}
    declared: type[_MlFloat] = dataclass(frozen=True, kw_only=True)(type(name, bases, body))
    data_type_registry.register(name, declared)
    return declared


BFloat16 = _declare("bfloat16")
Float8E3M4 = _declare("float8_e3m4")
Float8E4M3B11FNUZ = _declare("float8_e4m3b11fnuz")
Float8E4M3FN = _declare("float8_e4m3fn")
Float8E4M3FNUZ = _declare("float8_e4m3fnuz")
Float8E5M2 = _declare("float8_e5m2")
Float8E5M2FNUZ = _declare("float8_e5m2fnuz")
Float8E8M0FNU = _declare("float8_e8m0fnu")
