"""What may name a remote, and that no secret ever does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockroom.errors import InvalidInputError
from stockroom.remotes.transport.url import RemoteSettings, parse_remote_settings


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/srv/data", "/srv/data"),
        ("shared/data", "/home/ada/shared/data"),
        ("../data", "/home/data"),
        ("file:///srv/my%20data", "/srv/my data"),
        ("s3://bucket/some/prefix/", "s3://bucket/some/prefix"),
        ("S3://bucket/Prefix", "s3://bucket/Prefix"),
        ("gs://bucket", "gs://bucket"),
        ("./s3:/bucket", "/home/ada/s3:/bucket"),
        ("./user@host:path", "/home/ada/user@host:path"),
        ("az://container/prefix", "az://container/prefix"),
        ("https://example.org/data", "https://example.org/data"),
    ],
)
def test_folders_and_urls_are_understood(given: str, expected: str) -> None:
    assert parse_remote_settings(given, base=Path("/home/ada")) == RemoteSettings(expected)


@pytest.mark.parametrize(
    "given",
    [
        "s3://AKIAEXAMPLE:topsecret@bucket/x",
        "https://user:topsecret@example.org/x",
        "https://example.org/x?X-Amz-Signature=topsecret",
        "s3://bucket/x#topsecret",
    ],
)
def test_a_url_with_credentials_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(InvalidInputError, match="credentials") as caught:
        parse_remote_settings(given, base=Path("/"))
    assert "topsecret" not in str(caught.value)
    with pytest.raises(InvalidInputError) as caught:
        parse_remote_settings("s3://bucket", endpoint_url=given.replace("s3:", "https:"), base=Path("/"))
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("given", ["", "ftp://host/x", "s3://", "file://host/x", "a\0b"])
def test_what_is_no_remote_is_refused(given: str) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        parse_remote_settings(given, base=Path("/"))


@pytest.mark.parametrize("given", ["s3//bucket", "s3:/bucket/x", "s3:bucket", "HTTPS//host/x", "gs//b"])
def test_a_mistyped_url_is_no_folder(given: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"expected (s3|https|gs)://"):
        parse_remote_settings(given, base=tmp_path)


@pytest.mark.parametrize("given", ["git@host:path", "user@host:", "host:path/x", "host.example.org:path"])
def test_a_path_on_another_machine_is_no_folder_unless_there_is_one(given: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="ssh is"):
        parse_remote_settings(given, base=tmp_path)
    (tmp_path / given).mkdir(parents=True)
    assert parse_remote_settings(given, base=tmp_path).url == str(tmp_path / given)


def test_a_folder_whose_path_is_not_utf_8_is_refused_by_name(tmp_path):
    with pytest.raises(InvalidInputError, match=r"whose path is UTF-8, found '.*\\udcff'"):
        parse_remote_settings(os.fsdecode(b"f\xff"), base=tmp_path)
