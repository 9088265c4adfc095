"""The store against a plain dict: whatever is put, flushed, aborted, reopened, repacked or lost of its caches."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from blake3 import blake3
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stockroom.store.chunk_run import Stream
from stockroom.store.codecs import AUTO, Codec
from stockroom.store.pack.layout import list_pack_directories
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter
from stockroom.store.upkeep.repack import plan_repack, repack
from stockroom.store.upkeep.verify import check_pack

CODECS = st.sampled_from([AUTO, *Codec])
SEEDS = st.integers(0, 12)
"""Few, so that the same content comes again."""


def _make_rows(seed: int, count: int, nbytes: int) -> np.ndarray:
    rng = np.random.default_rng([seed, nbytes])
    rows = rng.integers(0, 256, (count, nbytes)).astype(np.uint8)
    rows[:, nbytes // 2 :] = seed
    return rows


class StoreAgainstDict(RuleBasedStateMachine):
    """`durable` is what must be findable, `pending` what must be once it is flushed."""

    @initialize()
    def open(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.store = TensorStore(self.root)
        self.writer = TensorWriter(self.store)
        self.durable: dict[bytes, bytes] = {}
        self.pending: dict[bytes, bytes] = {}

    @rule(
        seed=SEEDS,
        count=st.integers(1, 700),
        nbytes=st.sampled_from([40, 96, 1000]),
        step=st.sampled_from([1, 2, 7, -1]),
        codec=CODECS,
    )
    def put_rows_of_one_shape(self, seed, count, nbytes, step, codec):
        rows = np.ascontiguousarray(_make_rows(seed, count, nbytes)[::step])  # so that new ones lie among known ones
        digests = self.writer.put_rows(rows, Stream("uint8", (nbytes,), codec))
        self.writer.wait()
        assert [digest.tobytes() for digest in digests] == [blake3(row).digest() for row in rows]
        self._expect([row.tobytes() for row in rows])

    @rule(seed=SEEDS, lengths=st.lists(st.integers(5, 5000), min_size=1, max_size=30), codec=CODECS)
    def put_rows_of_many_shapes(self, seed, lengths, codec):
        rows = [_make_rows(seed, 1, 8 * length).tobytes() for length in lengths]
        for row in rows:
            assert self.writer.put_row(row, Stream("float64", None, codec)) == blake3(row).digest()
        self._expect(rows)

    @rule(seed=SEEDS, codec=CODECS)
    def put_a_large_tensor(self, seed, codec):
        tensor = np.tile(_make_rows(seed, 1, 5000).reshape(-1), 1000 + seed)
        chunks = self.writer.put_tensor(tensor, tensor.shape, dtype="uint8", codec=codec)
        assert chunks.tensor_digest == blake3(tensor).digest()
        size = chunks.chunk_nbytes
        self._expect([tensor[start : start + size].tobytes() for start in range(0, len(tensor), size)])

    @rule()
    def flush(self):
        self.writer.flush()
        self.durable |= self.pending
        self.pending = {}

    @rule()
    def abort(self):
        self.writer.abort()
        self.pending = {}

    @rule(limit=st.sampled_from([4, 64]))
    def reopen(self, limit):
        self.writer.close()
        self.store.close()
        self.pending = {}
        self._open(limit)

    @rule(lost=st.sampled_from(["catalog", "index"]))
    def lose_a_cache(self, lost):
        self.writer.close()
        self.store.close()
        self.pending = {}
        shutil.rmtree(self.root / lost)
        self._open(64)

    @precondition(lambda self: not self.pending)
    @rule(codec=st.none() | CODECS)
    def rewrite(self, codec):
        repack(self.store, plan_repack(self.store, codec=codec))
        assert plan_repack(self.store, codec=codec).packs == ()

    @invariant()
    def everything_durable_reads_back(self):
        by_length: dict[int, list[bytes]] = {}
        for digest, data in self.durable.items():
            by_length.setdefault(len(data), []).append(digest)
        for nbytes, digests in by_length.items():
            joined = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
            rows = self.store.gather(self.store.locate(joined, nbytes), nbytes)
            assert [row.tobytes() for row in rows] == [self.durable[digest] for digest in digests]

    @invariant()
    def what_is_pending_reads_back_from_the_writer(self):
        for digest, data in list(self.pending.items())[:5]:
            read = self.writer.read(digest)
            if read is None:  # its pack was sealed when it was full: then it is in the store
                read = self.store.read(int(self.store.locate(np.frombuffer(digest, np.uint8).reshape(1, 32))[0]))
            assert bytes(read) == data

    def teardown(self) -> None:
        if not hasattr(self, "root"):
            return
        self.writer.close()
        assert list(self.store.tmp_directory.iterdir()) == []
        for directory in list_pack_directories(self.store.packs_directory):
            assert list(check_pack(directory).damage) == []
        self.store.close()
        shutil.rmtree(self.root)

    def _open(self, limit: int) -> None:
        self.store = TensorStore(self.root)
        self.store.cache.forget()
        self.store.cache.limit = limit
        self.writer = TensorWriter(self.store)

    def _expect(self, rows: list[bytes]) -> None:
        for row in rows:
            digest = blake3(row).digest()
            if digest not in self.durable:
                self.pending[digest] = row


StoreAgainstDict.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
test_the_store_agrees_with_a_dict = StoreAgainstDict.TestCase
