"""The command line with remotes: every verb in a real process, JSON, progress, exit codes, and no secret anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.kit.programs import STOCK, read_json, run_stock
from tests.kit.servers import BUCKET, Proxy, fail_with

from stockroom import StockRoom

IMAGES = np.random.default_rng(5).integers(0, 256, (100, 3, 32, 32), dtype=np.uint8)
KEY_ID, SECRET, PASSWORD = (
    "AKIACANARYKEYID00000",
    "canary/secret+0123456789abcdefghijklmnop",
    "canaryprofilesecret0000000000",
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    with StockRoom.init(tmp_path / "source") as stock, stock.enable_write("Images"):
        stock.data["image"] = IMAGES
        stock.data["label"] = np.arange(100) % 10
    return tmp_path / "source"


def test_a_colleague_works_from_metadata(source: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    assert run_stock(source, "remote", "add", "origin", remote).returncode == 0
    assert run_stock(source, "remote").stdout == f"origin\t{remote}\n"
    pushed = run_stock(source, "push")
    assert (pushed.returncode, pushed.stdout) == (0, "")
    assert "1 pack" in pushed.stderr
    assert "everything up to date" in run_stock(source, "push").stderr
    cloned = run_stock(tmp_path, "clone", "--metadata-only", remote, "clone")
    assert cloned.returncode == 0
    assert "present: 0 B of" in cloned.stderr
    clone = tmp_path / "clone"
    assert "Present: 0 B of" in run_stock(clone, "status").stdout
    assert run_stock(clone, "branch", "-r").stdout.split() == ["origin/main"]
    assert run_stock(clone, "log", "--oneline", "origin/main").returncode == 0
    planned = run_stock(clone, "prefetch", "data/image", "--keys", "0:50", "--where", "label == 3", "--dry-run")
    assert planned.stdout == "5 samples: would fetch 15.0 KiB, reading 123.0 KiB in 1 request\n"
    assert (
        run_stock(clone, "prefetch", "data/image", "--keys", "3,13").stdout
        == "2 samples: fetched 6.0 KiB, reading 33.0 KiB in 1 request\n"
    )
    assert run_stock(clone, "cat", "data/image/7").returncode == 0
    assert run_stock(clone, "export", "data/image", "--to", "all.npy").returncode == 0
    assert np.array_equal(np.load(clone / "all.npy"), IMAGES)
    assert "freed" in run_stock(clone, "drop", "--all").stdout
    with StockRoom(clone) as handle, handle.enable_write("Relabel"):
        handle.data["label"][0] = 9
    assert run_stock(clone, "push").returncode == 0
    pulled = run_stock(source, "pull")
    assert "main is now at" in pulled.stderr
    assert "already up to date" in run_stock(source, "fetch").stderr


def test_every_verb_answers_in_json(source: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    assert read_json(source, "remote", "add", "origin", remote)["url"] == str(remote)
    assert read_json(source, "remote")["remotes"] == [{"name": "origin", "url": str(remote)}]
    assert read_json(source, "push")["packs"] == 1
    clone = tmp_path / "clone"
    assert read_json(tmp_path, "clone", "--metadata-only", remote, clone)["present_nbytes"] == 0
    assert read_json(clone, "fetch")["moved"] == []
    assert read_json(clone, "pull")["branch"] == "main"
    assert read_json(clone, "prefetch", "image", "--keys", ":10", "-n")["nbytes"] == 30720
    assert read_json(clone, "prefetch", "--max-size", "6KiB")["left_out"] == 98
    presence = read_json(clone, "status")["presence"]
    assert isinstance(presence, dict)
    assert presence["packs"] == 1
    assert read_json(clone, "drop", "--to-size", "1KB")["packs"] == 1
    assert read_json(clone, "export", "data/label", "--to", "label.npy")["samples"] == 100


def test_exit_codes_say_what_went_wrong(source: Path, tmp_path: Path, s3_server: str) -> None:
    env = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "STOCKROOM_FETCH_TIMEOUT": "5"}
    with Proxy(s3_server) as proxy:
        proxy.add("", fail_with(403))
        run_stock(source, "remote", "add", "origin", f"s3://{BUCKET}/codes", "--endpoint-url", proxy.url)
        assert run_stock(source, "push", **env).returncode == 12
        proxy.clear()
        proxy.add("PUT", fail_with(500))
        assert run_stock(source, "push", **env).returncode == 13
        proxy.clear()
        assert run_stock(source, "push", **env).returncode == 0
        assert (
            run_stock(
                tmp_path, "clone", "--metadata-only", f"s3://{BUCKET}/codes", "c", "--endpoint-url", proxy.url, **env
            ).returncode
            == 0
        )
        proxy.add("GET .*packs", fail_with(404))
        done = run_stock(tmp_path / "c", "cat", "data/image/3", **env)
        assert done.returncode == 13
        assert "pack" in done.stderr
        assert "origin" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    with StockRoom(tmp_path / "c") as clone, clone.enable_write("Theirs"):
        clone.data["label"][0] = 1
    with StockRoom(source) as stock_, stock_.enable_write("Ours"):
        stock_.data["label"][0] = 2
    remotes = ("remote", "set-url", "origin", tmp_path / "folder")
    assert run_stock(source, *remotes).returncode == 0
    assert run_stock(source, "push").returncode == 0
    assert run_stock(tmp_path / "c", *remotes).returncode == 0
    assert run_stock(tmp_path / "c", "push").returncode == 14
    assert run_stock(tmp_path / "c", "pull").returncode == 14
    assert run_stock(tmp_path / "c", "push", "--force").returncode == 0
    for words in (
        ("remote", "frobnicate"),
        ("remote", "add", "x"),
        ("drop",),
        ("prefetch", "--keys", "1:2"),
        ("export", "data/label", "--to", "x.csv"),
    ):
        assert run_stock(source, *words).returncode == 2
    assert "credentials" in run_stock(source, "remote", "add", "bad", "https://user:hunter2@example.org/").stderr


def test_a_transfer_that_is_interrupted_says_that_it_can_go_on(source: Path, tmp_path: Path, s3_server: str) -> None:
    env = {**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    with Proxy(s3_server) as proxy:
        run_stock(source, "remote", "add", "origin", f"s3://{BUCKET}/interrupted", "--endpoint-url", proxy.url)
        proxy.add("PUT", lambda _: proxy.released.wait(60) and None)
        process = subprocess.Popen([*STOCK, "push"], cwd=source, env=env, stderr=subprocess.PIPE, text=True)
        while not proxy.count("PUT"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        proxy.released.set()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "run the same command again to resume" in errors
        proxy.clear()
        assert run_stock(source, "push", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y").returncode == 0


def test_no_secret_is_ever_shown_or_kept(source: Path, tmp_path: Path, s3_server: str) -> None:
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws/credentials").write_text(
        f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {PASSWORD}\n"
        f"[other]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {PASSWORD}\n"
    )
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": f"token-{SECRET}"}
    said: list[str] = []
    with Proxy(s3_server) as proxy:
        for number, env in enumerate((keys, {"AWS_PROFILE": "other"}, {})):
            env = {**env, "HOME": str(home), "STOCKROOM_FETCH_TIMEOUT": "3"}
            clone = tmp_path / f"clone-{number}"
            url = f"s3://{BUCKET}/canary-{number}"
            options = ("--endpoint-url", proxy.url, "--region", "eu-west-1")
            commands: list[tuple[object, ...]] = [
                ("-C", source, "remote", "add", f"r{number}", url, *options),
                ("-C", source, "push", f"r{number}"),
                ("clone", "--metadata-only", url, clone, *options),
                ("-C", clone, "cat", "data/image/1"),
                ("-C", clone, "fetch"),
                ("-C", clone, "status"),
                ("-C", clone, "remote"),
            ]
            for command in commands:
                done = run_stock(tmp_path, *command, *((), ("-v",), ("--json",))[number], **env)
                said += [done.stdout, done.stderr]
            proxy.add("", fail_with((500, 403, 404)[number]))
            for command in (("-C", source, "push", f"r{number}"), ("-C", clone, "cat", "data/image/9")):
                done = run_stock(tmp_path, *command, "-v" if number else "--json", **env)
                said += [done.stdout, done.stderr]
            proxy.clear()
            for root in (source, clone):
                said += [path.read_bytes().decode("latin-1") for path in root.rglob("*") if path.is_file()]
    everything = "\n".join(said)
    assert "canary-0" in everything
    for secret in (KEY_ID, SECRET, PASSWORD, SECRET.replace("/", "%2F").replace("+", "%2B")):
        assert secret not in everything


def test_gc_of_a_remote_says_what_it_marks_and_removes(source: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    assert run_stock(source, "remote", "add", "origin", remote).returncode == 0
    with StockRoom(source) as made:
        made.push()
        made.checkout("old", create=True)
        with made.enable_write("Old"):
            made.data["old"] = IMAGES + 1
        made.push()
        made.checkout("main")
        made.push(ref=":old")
    dry = run_stock(source, "gc", "--remote", "--dry-run")
    assert dry.stdout.splitlines() == [
        "would remove 0 B on origin: 0 packs, 0 bundles",
        "would mark 1 pack as unreachable",
    ]
    assert not (remote / "marks").exists()
    first = run_stock(source, "gc", "--remote", "origin")
    assert first.stdout.splitlines() == ["removed 0 B on origin: 0 packs, 0 bundles", "marked 1 pack as unreachable"]
    assert "not long enough" in first.stderr
    found = read_json(source, "gc", "--remote", "--grace", "0")
    assert (found["remote"], found["packs"], found["marked"], found["waiting"]) == ("origin", 1, 0, 0)
    repacked = read_json(source, "gc", "--remote", "--repack")
    assert (repacked["repacked"], repacked["made"]) == (0, 0)  # there is nothing small beside another
    for words, message in (
        (("gc", "--remote", "nope"), "no remote 'nope'"),
        (("gc", "origin"), "--remote"),
    ):
        refused = run_stock(source, *words)
        assert refused.returncode == 1
        assert message in refused.stderr
    with StockRoom.clone(str(remote), tmp_path / "clone") as clone:
        assert np.array_equal(np.asarray(clone.data["image"]), IMAGES)
