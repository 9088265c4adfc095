"""Codecs: what is encoded comes back, what is damaged is noticed, what is not worth it is left alone."""

import numpy as np
import pytest

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.store.codecs import Codec, check_codec, choose_codec, decode_block, encode_block

BLOCK = np.arange(16384, dtype=np.uint32).tobytes()
ENCODING = [codec for codec in Codec if codec is not Codec.RAW]


@pytest.mark.parametrize("codec", list(Codec))
def test_a_block_comes_back_from_any_kind_of_buffer(codec):
    encoded = bytes(encode_block(codec, BLOCK, 4))
    frozen = np.frombuffer(encoded, np.uint8)
    for buffer in (encoded, bytearray(encoded), memoryview(encoded), frozen):
        assert bytes(decode_block(codec, buffer, len(BLOCK), where="here")) == BLOCK


@pytest.mark.parametrize("codec", ENCODING)
def test_every_flipped_bit_of_an_encoded_block_is_noticed(codec):
    encoded = bytes(encode_block(codec, BLOCK[:4096], 4))
    for position in range(len(encoded)):
        broken = bytearray(encoded)
        broken[position] ^= 1 << (position % 8)
        with pytest.raises(CorruptionError, match="block 7"):
            decode_block(codec, bytes(broken), 4096, where="block 7")


@pytest.mark.parametrize("codec", ENCODING)
def test_a_block_of_another_size_than_promised_is_refused(codec):
    encoded = bytes(encode_block(codec, BLOCK, 4))
    for promised in (len(BLOCK) - 1, len(BLOCK) + 1, 1, 1 << 20):
        with pytest.raises(CorruptionError):
            decode_block(codec, encoded, promised, where="here")
    for cut in (0, 3, 4, 20, len(encoded) - 1):
        with pytest.raises(CorruptionError):
            decode_block(codec, encoded[:cut], len(BLOCK), where="here")


def test_auto_keeps_what_does_not_shrink_by_half_raw():
    rng = np.random.default_rng(0)
    noise = rng.bytes(1 << 16)
    assert choose_codec(noise, 4) is Codec.RAW
    assert choose_codec(b"", 4) is Codec.RAW
    assert choose_codec(bytes(1 << 16), 1) is Codec.LZ4
    assert choose_codec(np.arange(16384, dtype=np.uint32).tobytes(), 4) is Codec.BLOSC
    assert choose_codec(noise[: 40 << 10] + bytes(24 << 10), 1) is Codec.RAW


def test_an_unknown_codec_is_refused_with_the_known_ones():
    assert [check_codec(name) for name in ("auto", *Codec)] == ["auto", *Codec]
    with pytest.raises(InvalidInputError, match="auto, raw, lz4, zstd, blosc"):
        check_codec("gzip")
