import numpy as np
import pytest

from stockroom.importers.source import BATCH_NBYTES, count_batch_rows


@pytest.mark.parametrize(
    ("dtype", "shape", "rows"),
    [
        ("u1", (3, 32, 32), BATCH_NBYTES // 3072),
        ("i8", (), BATCH_NBYTES // 8),
        ("f4", (4096, 4096), 1),
    ],
)
def test_a_batch_holds_what_fits_and_at_least_one_sample(dtype: str, shape: tuple[int, ...], rows: int) -> None:
    assert count_batch_rows(np.dtype(dtype), shape) == rows
