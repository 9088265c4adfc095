"""A repository's own settings: what they may be, and what they do."""

from __future__ import annotations

import getpass
from pathlib import Path

import numpy as np
import pytest

from stockroom import AbsentDataError, InvalidInputError, MalformedRecordError, StockRoom
from stockroom.remotes.agent.fetcher import read_stall_s
from stockroom.repository.config import KEYS, Settings, change_setting, change_settings, get_setting, read_settings


def test_settings_read_back_as_they_were_written(tmp_path: Path) -> None:
    settings = Settings()
    for key, text in (("user.name", " Ada "), ("fetch.lazy", "OFF"), ("fetch.timeout", "1.5")):
        settings = change_setting(settings, get_setting(key), text)
    change_settings(tmp_path / "config.json", lambda _: settings)
    assert read_settings(tmp_path / "config.json") == Settings(name="Ada", lazy_fetch=False, fetch_timeout_s=1.5)
    assert change_setting(settings, get_setting("user.name"), None).name is None


def test_no_file_is_nothing_set_and_damage_is_named(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "none.json") == Settings()
    (tmp_path / "config.json").write_text('{"name": 7}')
    with pytest.raises(MalformedRecordError, match=r"config\.json"):
        read_settings(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("user.name", ""),
        ("user.name", "A <b>"),
        ("user.email", "a\nb"),
        ("user.name", "x" * 1001),
        ("fetch.lazy", "maybe"),
        ("fetch.timeout", "0"),
        ("fetch.timeout", "nan"),
        ("fetch.timeout", "soon"),
    ],
)
def test_values_that_make_no_sense_are_refused(key: str, text: str) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        change_setting(Settings(), get_setting(key), text)


def test_an_unknown_key_names_those_near_to_it() -> None:
    with pytest.raises(InvalidInputError, match=r"did you mean user\.name"):
        get_setting("user.nmae")
    with pytest.raises(InvalidInputError, match=r"there are user\.name"):
        get_setting("colour")


def test_commits_are_signed_as_is_set_and_by_the_machines_user_otherwise(stock: StockRoom) -> None:
    stock.change_setting("user.name", "Grace Hopper")
    stock.change_setting("user.email", None)
    assert dict(stock.settings) == {"user.name": "Grace Hopper", **dict.fromkeys([key.name for key in KEYS[1:]])}
    with stock.enable_write("One"):
        stock.data["a"] = np.arange(3)
    (commit,) = stock.log()
    assert commit.author == "Grace Hopper"
    assert commit.email.startswith(f"{getpass.getuser()}@")


def test_init_leaves_other_settings_as_they_are(tmp_path: Path) -> None:
    with StockRoom.init(tmp_path) as stock:
        stock.change_setting("fetch.timeout", "7")
        assert stock.settings["fetch.timeout"] == 7


def test_without_lazy_fetch_what_is_not_here_is_absent_until_it_is_set_again(stock: StockRoom, tmp_path: Path) -> None:
    with stock.enable_write("Rows"):
        stock.data["a"] = np.arange(400, dtype=np.uint8).reshape(4, 100)
    stock.add_remote("origin", str(tmp_path / "remote"))
    stock.push()
    StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone", metadata_only=True).close()
    with StockRoom(tmp_path / "clone") as clone:
        clone.change_setting("fetch.lazy", "false")
    with StockRoom(tmp_path / "clone") as clone:
        with pytest.raises(AbsentDataError, match=r"fetch\.lazy is off"):
            clone.data["a"][0]
        clone.change_setting("fetch.lazy", None)
    with StockRoom(tmp_path / "clone") as clone:
        assert clone.data["a"][0][5] == 5


def test_damaged_settings_keep_nobody_from_reading(stock: StockRoom) -> None:
    with stock.enable_write("Rows"):
        stock.data["a"] = np.arange(4)
    (stock.path / ".stockroom" / "config.json").write_text("no JSON")
    with StockRoom(stock.path) as again:
        assert again.data["a"][3] == 3


def test_the_environment_goes_before_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOCKROOM_FETCH_TIMEOUT", raising=False)
    assert read_stall_s(7.0) == 7.0
    monkeypatch.setenv("STOCKROOM_FETCH_TIMEOUT", "3")
    assert read_stall_s(7.0) == 3.0
