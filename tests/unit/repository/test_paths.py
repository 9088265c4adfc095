"""Small files that are no UTF-8: an error that names the file, or, where they only inform, nothing at all."""

from __future__ import annotations

import pytest

from stockroom import LockedError, StockRoom, errors

GARBAGE = b'{"name": "\xff\xfe", "email": "a@b"}'


def test_a_config_that_is_no_utf_8_is_named(stock: StockRoom) -> None:
    (stock.path / ".stockroom" / "config.json").write_bytes(GARBAGE)
    with pytest.raises(errors.CorruptionError, match=r"config\.json"), stock.enable_write():
        stock.data["a"] = [1]


def test_settings_of_remotes_that_are_no_utf_8_are_named(stock: StockRoom) -> None:
    (stock.path / ".stockroom" / "remotes.json").write_bytes(b'{"origin": {"url": "\xff"}}')
    with pytest.raises(errors.MalformedRecordError, match=r"remotes\.json.*fix the file"):
        stock.push()


def test_a_lease_whose_holder_cannot_be_read_is_held_all_the_same(stock: StockRoom) -> None:
    with StockRoom(stock.path, enable_write=True):
        (stock.path / ".stockroom" / "writer.lock").write_bytes(b'{"pid": 1, "host": "\xff", "since": ""}')
        with pytest.raises(LockedError), stock.enable_write(timeout_s=0):
            pass
