"""How small things are: metadata beside the samples, and a data set sent to another process."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

from materials import Materials
from row import BYTES, Row
from stockroom import StockRoom, make_torch_dataset
from storage import measure_allocated


def metadata_on_disk(materials: Materials) -> Iterator[Row]:
    """Disk that all but the shards occupies, for each sample: history, chunk lists, catalog, location tables."""
    per_image = measure_allocated(materials.image_repository) / materials.sizes.small
    yield Row("metadata and indexes of a 3 KiB sample", BYTES, per_image, at_most=100)
    per_label = measure_allocated(materials.label_repository) / materials.sizes.labels
    yield Row("metadata and indexes of an int64 label", BYTES, per_label, at_most=14)


def pickled_dataset(materials: Materials) -> Iterator[Row]:
    """A data set as a DataLoader sends it to a spawned worker."""
    count = materials.sizes.histories[-1]
    with StockRoom(materials.open_history(count).path) as stock:
        nbytes = len(pickle.dumps(make_torch_dataset([stock.data["sample"]])))
    yield Row(f"pickled data set of {count:,} samples", BYTES, nbytes, at_most=4 << 10)
