"""Remotes are opened once for each environment of a client, for a few environments at a time."""

from __future__ import annotations

from pathlib import Path

from stockroom import StockRoom
from stockroom.digest import PackDigest
from stockroom.remotes.agent.open_remotes import MAX_ENVIRONMENTS, OpenRemotes
from stockroom.remotes.transport.environment import RemoteEnvironment

PACK = PackDigest(bytes(32))


def test_each_environment_has_its_transports_and_those_used_last_stay(tmp_path: Path) -> None:
    with StockRoom.init(tmp_path / "clone") as stock:
        stock.add_remote("origin", "s3://bucket/x")
    remotes = OpenRemotes(tmp_path / "clone/.stockroom")
    environments = [RemoteEnvironment({"AWS_ACCESS_KEY_ID": str(n)}) for n in range(MAX_ENVIRONMENTS + 1)]
    opened = [remotes.list_for(PACK, environment)[0].transport for environment in environments[:-1]]
    assert len(set(map(id, opened))) == MAX_ENVIRONMENTS
    again = [
        remotes.list_for(PACK, RemoteEnvironment(dict(environment)))[0].transport for environment in environments[:-1]
    ]
    assert again == opened
    remotes.list_for(PACK, environments[-1])
    assert [remotes.list_for(PACK, environment)[0].transport for environment in environments[1:-1]] == opened[1:]
    assert remotes.list_for(PACK, environments[0])[0].transport is not opened[0]


def test_remotes_are_opened_again_once_their_settings_change(tmp_path: Path) -> None:
    environment = RemoteEnvironment({})
    with StockRoom.init(tmp_path / "clone") as stock:
        stock.add_remote("origin", "s3://bucket/x")
        remotes = OpenRemotes(tmp_path / "clone/.stockroom")
        assert [remote.transport.url for remote in remotes.list_for(PACK, environment)] == ["s3://bucket/x"]
        stock.remove_remote("origin")
        stock.add_remote("origin", "s3://bucket/y")
        assert [remote.transport.url for remote in remotes.list_for(PACK, environment)] == ["s3://bucket/y"]
