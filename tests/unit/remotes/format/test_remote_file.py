"""`remote.stock`: what it may say, and that nothing else is believed."""

from __future__ import annotations

import os

import pytest

from stockroom import CorruptionError, FormatVersionError, InvalidInputError, MalformedRecordError, StockRoom
from stockroom.remotes.format.remote_file import format_remote, parse_remote, read_remote_file
from stockroom.remotes.transport.url import RemoteSettings

GOOD = [
    RemoteSettings("s3://bucket/pets"),
    RemoteSettings("s3://bucket/pets", "https://localhost:9000", "eu-west-1"),
    RemoteSettings("gs://bucket/a/b"),
    RemoteSettings("az://container/x", None, "westeurope"),
    RemoteSettings("https://example.org/pets"),
    RemoteSettings("/home/ada/a folder/with ümlauts"),
]


@pytest.mark.parametrize("settings", GOOD, ids=lambda settings: settings.url)
def test_a_remote_is_parsed_back_from_its_text(settings):
    text = format_remote(settings)
    assert parse_remote(text, where="remote") == settings
    assert parse_remote(text.replace("\n", "\r\n"), where="remote") == settings  # git may be set to write these


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage secret\n",
        "stockroom remote 1\n",
        "stockroom remote 1\nurl s3://bucket/secret\nendpoint -\nregion -",
        "stockroom remote 1\nurl s3://bucket/secret\nendpoint -\nregion -\n\n",
        "stockroom remote 1\nurl s3://bucket/secret\nregion -\nendpoint -\n",
        "stockroom remote 1\nurl https://user:secret@example.org/x\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl https://example.org/x?token=secret\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl ftp://secret.example.org/x\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl ext::sh -c secret\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl --upload-pack=secret\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl ../secret\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl ~/secret\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl ~nobody-of-that-name/secret\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl file:///secret\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl /a/../secret\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl /a://secret\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl s3://bucket/secret/\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl s3://bucket/secret\x1b[2J\nendpoint -\nregion -\n",
        "stockroom remote 1\nurl s3://bucket/x\nendpoint http://u:secret@h\nregion -\n",
        "stockroom remote 1\nurl s3://bucket/x\nendpoint gopher://secret\nregion -\n",
        "stockroom remote 1\nurl s3://bucket/x\nendpoint -\nregion a secret\n",
        "stockroom remote 1\nurl s3://bucket/x\nendpoint -\nregion -\nmore secret\n",
        "stockroom remote 1\nurl s3://bucket/x\nendpoint \nregion -\n",
        "stockroom remote 1\nurl -\nendpoint -\nregion -\n",
        "<<<<<<< ours\nstockroom remote 1\nurl /secret\nendpoint -\nregion -\n=======\n>>>>>>> theirs\n",
        "stockroom remote 1\nurl /" + "secret" * 10_000 + "\nendpoint -\nregion -\n",
    ],
    ids=range(27),
)
def test_any_other_text_is_refused_and_not_repeated(text):
    with pytest.raises(MalformedRecordError, match=r"^somewhere: ") as refused:
        parse_remote(text, where="somewhere")
    assert "secret" not in str(refused.value)


def test_the_file_of_a_newer_stockroom_is_told_from_damage():
    with pytest.raises(FormatVersionError, match="upgrade"):
        parse_remote("stockroom remote 2\nurl s3://bucket/x\n", where="remote")


def test_what_the_file_cannot_hold_is_not_written():
    for url in ("/folder\nregion x", "/" + "long" * 2000):
        with pytest.raises(InvalidInputError):
            format_remote(RemoteSettings(url))


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path):
    assert read_remote_file(tmp_path) is None
    os.mkfifo(tmp_path / "remote.stock")
    with pytest.raises(CorruptionError):
        read_remote_file(tmp_path)
    (tmp_path / "remote.stock").unlink()
    (tmp_path / "remote.stock").symlink_to("nowhere")
    with pytest.raises(CorruptionError):
        read_remote_file(tmp_path)


def test_outside_git_no_file_is_written(stock, tmp_path):
    stock.add_remote("origin", str(tmp_path / "data"))
    assert not (stock.path / "remote.stock").exists()
    with StockRoom(stock.path) as opened:
        assert dict(opened.remotes) == {"origin": str(tmp_path / "data")}
