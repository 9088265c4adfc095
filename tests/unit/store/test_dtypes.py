"""Names of dtypes: what is kept, under which name, stored as what."""

import ml_dtypes
import numpy as np
import pytest

from stockroom.errors import SchemaError
from stockroom.store.dtypes import EXTENSION_NAMES, STORAGE_NAMES, format_dtype, format_storage, parse_dtype

DATES = ["datetime64[ns]", "datetime64[D]", "datetime64[25s]", "timedelta64[ms]"]


@pytest.mark.parametrize("name", [*sorted(STORAGE_NAMES), "float8_e4m3", *DATES])
def test_every_name_gives_a_dtype_that_has_that_name(name):
    dtype = parse_dtype(name)
    assert format_dtype(dtype) == name
    assert dtype.byteorder in "<=|"
    assert format_storage(name) in STORAGE_NAMES
    assert parse_dtype(format_storage(name)).itemsize == dtype.itemsize


def test_byte_order_is_not_part_of_the_name():
    assert format_dtype(np.dtype(">f4")) == "float32"
    assert format_dtype(np.dtype(">M8[us]")) == "datetime64[us]"


def test_extension_types_are_those_of_ml_dtypes():
    assert all(parse_dtype(name) == np.dtype(getattr(ml_dtypes, name)) for name in EXTENSION_NAMES)


@pytest.mark.parametrize("dtype", ["O", "U5", "S5", "V8", "M8", "m8", "i4,f4", "longdouble", ml_dtypes.int4])
def test_what_is_not_kept_is_refused_with_what_is(dtype):
    with pytest.raises(SchemaError, match="cannot be stored: expected bool, an integer"):
        format_dtype(np.dtype(dtype))


@pytest.mark.parametrize("name", ["object", "str", "nonsense", "U5", "datetime64", "float128"])
def test_a_name_of_no_kept_dtype_is_refused(name):
    with pytest.raises(SchemaError):
        parse_dtype(name)
