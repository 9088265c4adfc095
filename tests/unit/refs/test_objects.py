"""Metadata objects: kept by digest, buffered, spilled, compressed, verified."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockroom.digest import ObjectDigest, compute_digest
from stockroom.errors import CorruptionError, DigestMismatchError, InvalidInputError, MalformedRecordError
from stockroom.kv import Environment
from stockroom.refs import DATABASES, ObjectStore
from stockroom.refs.objects import MAX_OBJECT_NBYTES, decode_object, encode_object


def on_disk(history):
    return ObjectStore(history.env)


def test_a_pending_object_is_read_here_and_nowhere_else(history):
    digest = history.objects.put_object(b"node")
    assert digest == compute_digest(b"node")
    assert history.objects.get_object(digest) == b"node"
    assert history.objects.contains(digest)
    assert not on_disk(history).contains(digest)
    history.objects.flush()
    assert on_disk(history).get_object(digest) == b"node"
    assert history.objects.unflushed_nbytes == 0


def test_discarded_objects_are_gone(history):
    digest = history.objects.put_object(b"node")
    history.objects.discard_unflushed()
    assert not history.objects.contains(digest)


def test_many_objects_come_in_the_order_asked_pending_or_not(history):
    written = [history.objects.put_object(b"%d" % n) for n in range(5)]
    history.objects.flush()
    pending = [history.objects.put_object(b"%d" % n) for n in range(5, 8)]
    assert history.objects.get_objects([*pending, *written, written[0]]) == [
        b"5",
        b"6",
        b"7",
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
        b"0",
    ]


def test_a_missing_object_is_named(history):
    digest = ObjectDigest(bytes(32))
    for read in (history.objects.get_object, lambda digest: history.objects.get_objects([digest])):
        with pytest.raises(CorruptionError, match="0000") as caught:
            read(digest)
        assert digest.hex() in caught.value.where


def test_the_same_object_is_written_once(history):
    history.objects.put_object(b"node")
    history.objects.flush()
    before = (history.objects.written_count, history.objects.written_nbytes)
    history.objects.put_object(b"node")
    history.objects.flush()
    assert (history.objects.written_count, history.objects.written_nbytes) == before


def test_pending_objects_spill_to_disk_above_the_limit(history):
    digests = [history.objects.put_object(os.urandom(8 << 20)) for _ in range(5)]
    assert on_disk(history).contains(digests[0])
    assert history.objects.unflushed_nbytes == 0
    last = history.objects.put_object(b"small")
    assert not on_disk(history).contains(last)
    assert len(history.objects.get_object(digests[0])) == 8 << 20


def test_compression_only_where_it_saves(history):
    history.objects.put_object(bytes(100_000))
    history.objects.flush()
    assert history.objects.written_nbytes < 1000
    noise = os.urandom(1000)
    assert len(encode_object(noise)) == 1005


def test_objects_above_the_limit_are_refused(history):
    with pytest.raises(InvalidInputError, match="64 MiB"):
        history.objects.put_object(bytes(MAX_OBJECT_NBYTES + 1))


def test_digests_are_listed_in_order(history):
    digests = {history.objects.put_object(b"%d" % n) for n in range(5000)} | {history.tree}
    history.objects.flush()
    assert list(history.objects.iter_digests()) == sorted(digests)


def test_a_flipped_byte_is_found_on_reading_and_by_verifying(history):
    digest = history.objects.put_object(os.urandom(100))
    history.objects.flush()

    def flip(txn):
        value = bytearray(txn.get("objects", digest))
        value[50] ^= 1
        txn.put("objects", digest, bytes(value))

    assert history.objects.list_damaged([digest]) == []
    history.env.update(flip)
    with pytest.raises(DigestMismatchError):
        history.objects.get_object(digest)
    ((damaged, error),) = history.objects.list_damaged([digest])
    assert damaged == digest
    assert isinstance(error, DigestMismatchError)


def test_a_length_beyond_the_bound_is_refused_before_anything_is_allocated():
    value = struct.pack("<BI", 1, 0xFFFFFFFF) + b"\x28\xb5\x2f\xfd"
    with pytest.raises(MalformedRecordError, match="64 MiB"):
        decode_object(value, ObjectDigest(bytes(32)))


@given(data=st.binary(max_size=200).map(lambda data: data * 5), position=st.integers(0), byte=st.integers(0, 255))
def test_mutated_values_are_corrupt_or_the_same_object(data, position, byte):
    digest = ObjectDigest(compute_digest(data))
    value = bytearray(encode_object(data))
    value[position % len(value)] = byte
    try:
        decoded = decode_object(bytes(value), digest)
    except CorruptionError:
        return
    assert decoded == data


@given(value=st.binary(max_size=40))
def test_any_bytes_at_all_are_only_ever_corrupt(value):
    with pytest.raises(CorruptionError):
        decode_object(value, ObjectDigest(bytes(32)))


def test_a_fork_with_pending_objects_works(history, tmp_path):
    digest = history.objects.put_object(b"pending in the parent")
    pid = os.fork()
    if pid == 0:
        try:
            history.objects.flush()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    history.objects.flush()
    with Environment.open(tmp_path / "refs", databases=DATABASES) as env:
        assert ObjectStore(env).get_object(digest) == b"pending in the parent"
