"""Folders from elsewhere: looking at one contacts nobody and executes nothing, and no link in it leads a write out."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stockroom import StockRoom, StockroomError
from stockroom.cli import main

PROGRAM = Path(sys.executable).with_name("stock")

WATCHED = """
import json, sys
from importlib import import_module
from stockroom.cli import main
from stockroom.cli.app import VERBS
for module in VERBS.values():
    import_module(f"stockroom.cli.verbs.{module}")

seen = []
EVENTS = {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.posix_spawn", "os.exec", "os.system",
          "os.fork", "pickle.find_class"}
sys.addaudithook(lambda event, arguments: seen.append(f"{event} {arguments[:2]}") if event in EVENTS else None)
codes = {look: main(look.split()) for look in json.loads(sys.argv[1])}
sys.stderr.write(json.dumps([codes, seen]))
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that nobody should come to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.fixture
def foreign(tmp_path: Path, listener: socket.socket) -> Path:
    """A metadata-only clone as it might come in an archive, with everything in it that one could hope somebody runs."""
    with StockRoom.init(tmp_path / "source") as source:
        with source.enable_write("First"):
            source.data["image"] = np.arange(4096, dtype=np.uint8).reshape(16, 256)
            source.data["label"] = np.arange(16)
            source.experiment["lr"] = 0.1
        source.add_remote("origin", str(tmp_path / "remote"))
        source.push()
    folder = tmp_path / "foreign"
    StockRoom.clone(str(tmp_path / "remote"), folder, metadata_only=True).close()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    remotes = {
        "origin": {"url": f"{url}/data", "endpoint_url": None, "region": None},
        "s3": {"url": "s3://bucket/x", "endpoint_url": url, "region": "evil"},
    }
    (folder / ".stockroom/remotes.json").write_text(json.dumps(remotes))
    (folder / "remote.stock").write_text(f"stockroom remote 1\nurl {url}/data\nendpoint -\nregion -\n")
    plant(folder)
    return folder


def plant(folder: Path) -> None:
    """Put programs wherever something might run them; each would leave a file `ran`."""
    mark = f"{folder}/ran"
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run(["git", "-C", folder, "add", "head.stock"], check=True)
    run_git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*run_git, "commit", "-qm", "first"], check=True)
    first = subprocess.run(
        [*run_git, "rev-parse", "HEAD:head.stock"], check=True, capture_output=True, text=True
    ).stdout
    with (folder / ".gitignore").open("w") as ignored:
        ignored.write("ran")
    subprocess.run([*run_git, "rm", "-q", "--cached", "head.stock"], check=True)
    subprocess.run([*run_git, "commit", "-qm", "second"], check=True)
    subprocess.run([*run_git, "add", "head.stock"], check=True)
    script = f"#!/bin/sh\ntouch {mark}\n"
    for name in ("post-checkout", "pre-commit", "post-index-change", "reference-transaction", "fsmonitor-watchman"):
        hook = folder / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(script)
        hook.chmod(0o755)
    with (folder / ".git/config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {folder}/.git/hooks/pre-commit\n\tsshCommand = touch {mark}\n")
        config.write(f"\tpager = touch {mark}\n\teditor = touch {mark}\n[diff]\n\texternal = touch {mark}\n")
        config.write(f'[filter "x"]\n\tclean = touch {mark}\n\tsmudge = touch {mark}\n\tprocess = touch {mark}\n')
        config.write(
            f'[remote "evil"]\n\turl = ext::touch {mark}\n\tpromisor = true\n[protocol "ext"]\n\tallow = always\n'
        )
        config.write(f"[log]\n\tshowSignature = true\n[gpg]\n\tprogram = {folder}/.git/hooks/pre-commit\n")
        config.write(f"[alias]\n\tstatus = !touch {mark}\n[credential]\n\thelper = !touch {mark}\n")
    (folder / ".git/objects" / first[:2] / first[2:].strip()).unlink()  # git would ask the remote for it
    (folder / ".gitattributes").write_text("* filter=x diff=x\n")
    python = f"open({mark!r}, 'w')\n"
    for name in (
        "sitecustomize",
        "usercustomize",
        "msgspec",
        "numpy",
        "lmdb",
        "stockroom",
        "torch",
        "conftest",
        "setup",
    ):
        (folder / f"{name}.py").write_text(python)
    (folder / "evil.egg-info").mkdir()
    (folder / "evil.egg-info/entry_points.txt").write_text("[stockroom.importers]\nevil = msgspec:evil\n")
    (folder / "evil.egg-info/PKG-INFO").write_text("Name: evil\nVersion: 1\n")
    pickled = b"cposix\nsystem\n(S'touch " + mark.encode() + b"'\ntR."
    for place in ("model.pt", "data.pkl", ".stockroom/config.pkl", ".stockroom/catalog/cache.pkl", ".stockroom/hooks"):
        (folder / place).write_bytes(pickled)


LOOKS = ["status", "ls", "ls data/image", "log", "log --oneline", "show", "diff", "branch", "tag", "reflog", "remote",
         "exp show", "exp ls", "model ls", "show :data"]  # fmt: skip


def test_a_look_at_a_foreign_folder_contacts_nobody_and_executes_nothing(foreign: Path) -> None:
    words = [sys.executable, "-P", "-c", WATCHED, json.dumps(LOOKS)]
    done = subprocess.run(words, cwd=foreign, capture_output=True, text=True, check=True)
    codes, seen = json.loads(done.stderr.splitlines()[-1])
    assert codes == dict.fromkeys(LOOKS, 0)
    assert [event for event in seen if not event.startswith("subprocess.Popen ('git', ['git', '-C'")] == []
    assert not (foreign / "ran").exists()


@pytest.mark.skipif(not PROGRAM.exists(), reason="the program `stock` is not installed beside this Python")
@pytest.mark.parametrize("verb", ["status", "ls", "log"])
def test_the_program_itself_runs_nothing_of_the_folder_it_is_called_in(foreign: Path, verb: str) -> None:
    done = subprocess.run([PROGRAM, verb], cwd=foreign, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (foreign / "ran").exists()


def test_opening_a_foreign_folder_in_python_contacts_nobody_and_executes_nothing(foreign: Path) -> None:
    with StockRoom(foreign) as stock:
        assert list(stock.data) == ["image", "label"]
        assert stock.data["label"][3] == 3
        assert stock.experiment["lr"] == 0.1
        assert [commit.message for commit in stock.log()] == ["First"]
        assert stock.status().clean
        assert stock.data["image"].present() == 0
    assert not (foreign / "ran").exists()


def test_files_that_would_block_or_never_end_are_refused(foreign: Path) -> None:
    for name in ("head.stock", ".stockroom/remotes.json", ".stockroom/config.json"):
        path = foreign / name
        kept = path.read_bytes() if path.exists() else None
        for make in (os.mkfifo, lambda at: at.symlink_to("/dev/zero"), lambda at: at.write_bytes(bytes(2 << 20))):
            path.unlink(missing_ok=True)
            make(path)
            with pytest.raises(StockroomError, match=r"expected a file of at most|malformed"):
                read_settings(foreign)
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)
    with StockRoom(foreign) as stock:
        assert set(stock.remotes) == {"origin", "s3"}


def read_settings(folder: Path) -> None:
    with StockRoom(folder) as stock:
        assert stock.remotes
        assert stock._repository.paths.read_identity()


# links


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    with StockRoom.init(tmp_path / "repo", name="n", email="e") as stock, stock.enable_write("First"):
        stock.data["image"] = np.arange(4096, dtype=np.uint8).reshape(16, 256)
        stock.experiment.log({"loss": 0.5}, step=0)
        stock.experiment["lr"] = 0.1
        stock.experiment.artifact("notes/a.txt", b"words")
        stock.model["net"] = {"w": np.arange(100.0)}
    return tmp_path / "repo"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a file that nothing here has any business with."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious").write_text("mine")
    return folder


WRITTEN = [
    "writer.lock",
    "refs/write.lock",
    "head.pending",
    "agent/lock",
    "agent/log",
    "commit.lock",
]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_link_in_place_of_a_file_of_our_own_leads_no_write_out(
    repository: Path, outside: Path, tmp_path: Path, name: str
) -> None:
    link = repository / ".stockroom" / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside / "precious")
    for words in (
        ["init", "--name", "other"],
        ["commit", "-m", "x"],
        ["remote", "add", "origin", str(tmp_path / "remote")],
        ["push"],
        ["checkout", "-b", "dev"],
        ["fetch"],
        ["drop", "--all"],
        ["cat", "data/image/3"],
        ["undo"],
        ["gc"],
    ):
        main(["-C", str(repository), *words])
    assert (outside / "precious").read_text() == "mine"


def test_a_link_in_place_of_a_clones_lock_is_not_followed(tmp_path: Path, outside: Path) -> None:
    url, state = str(tmp_path / "remote"), tmp_path / "clone/.stockroom"
    state.mkdir(parents=True)
    (state / "clone.json").write_text(json.dumps({"url": url}))  # one that was begun
    (state / "clone.lock").symlink_to(outside / "new")
    with pytest.raises(OSError, match="symbolic"):
        StockRoom.clone(url, state.parent)
    assert not (outside / "new").exists()


def test_links_among_temporary_folders_lead_no_cleaning_out(repository: Path, outside: Path) -> None:
    tmp = repository / ".stockroom/tmp"
    (outside / "lock").write_text("")
    (tmp / "1-00000000").symlink_to(outside)
    (tmp / "2-00000000").mkdir()
    (tmp / "2-00000000/lock").write_text("")
    (tmp / "2-00000000/inside").symlink_to(outside)
    (tmp / ".3-00000000").symlink_to(outside)
    os.utime(outside, (0, 0))
    with StockRoom(repository, enable_write=True) as writer:
        writer.data["more"] = np.ones((3, 300))
        writer.commit("more")
    main(["-C", str(repository), "gc", "--grace", "0s"])
    assert (outside / "precious").read_text() == "mine"


def test_an_export_writes_through_no_link_out_of_its_folder(
    repository: Path, outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    target = tmp_path / "target"
    target.mkdir()
    (target / "metrics").symlink_to(outside)
    (target / "values.json").symlink_to(outside / "precious")
    (target / "notes").symlink_to("../outside")
    (target / ".out.npy.part").symlink_to(outside / "precious")
    (target / "out.npy").symlink_to(outside / "new.npy")
    (target / "out.safetensors").symlink_to(outside / "precious")
    (target / f".out.safetensors.{os.getpid()}.part").symlink_to(outside / "precious")
    main(["exp", "export", "--to", str(target), "--force"])
    main(["exp", "export", "lr", "--to", str(target), "--force"])
    main(["export", "data/image", "--to", str(target / "out.npy")])
    main(["model", "export", "net", "--to", str(target / "out.safetensors"), "--force"])
    with StockRoom(repository) as stock:
        stock.experiment.artifacts["notes/a.txt"].save(target / "saved.txt")
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"precious": "mine"}
    assert json.loads((target / "values.json").read_text()) == {"lr": 0.1}
    assert not (target / "values.json").is_symlink()


# secrets

SECRET = "hunter2hunter2"
URLS = [
    f"https://user:{SECRET}@127.0.0.1:1/data",
    f"http://{SECRET}@127.0.0.1:1/data",
    f"s3://AKIA:{SECRET}@bucket/x",
    f"https://127.0.0.1:1/data?X-Amz-Signature={SECRET}",
    f"https://127.0.0.1:1/data#{SECRET}",
    f"ftp://user:{SECRET}@host/data",
    f"file://{SECRET}@host/data",
]


@pytest.mark.parametrize("url", URLS)
def test_a_secret_in_a_url_is_never_repeated_nor_kept(
    repository: Path, tmp_path: Path, url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["remote", "add", "origin", url],
        ["-v", "remote", "add", "origin", url],
        ["--json", "remote", "add", "origin", url],
        ["remote", "add", "origin", "s3://bucket/x", "--endpoint-url", url],
        ["clone", url, str(tmp_path / "clone")],
        ["-v", "clone", url, str(tmp_path / "clone")],
    ):
        code = main(["-C", str(repository), *words])
        assert code != 0, words
    assert SECRET not in "".join(capfd.readouterr())
    assert find_files_with(SECRET, tmp_path) == []


@pytest.mark.parametrize("url", URLS)
def test_a_secret_that_somebody_wrote_into_the_settings_is_not_repeated(
    repository: Path, tmp_path: Path, url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = repository / ".stockroom/remotes.json"
    published = repository / "remote.stock"
    settings.write_text(json.dumps({"origin": {"url": url, "endpoint_url": None, "region": None}}))
    published.write_text(f"stockroom remote 1\nurl {url}\nendpoint -\nregion -\n")
    for verb in ("remote", "fetch", "push", "pull", "status", "log", "fsck", "ls"):
        main(["-C", str(repository), "-v", verb])
        main(["-C", str(repository), "--json", verb])
    shutil.rmtree(repository / ".stockroom")
    main(["-C", str(repository), "-v", "clone", "--here"])
    assert SECRET not in "".join(capfd.readouterr())
    published.unlink()
    assert find_files_with(SECRET, tmp_path) == []


def test_secrets_of_the_environment_appear_neither_in_errors_nor_in_logs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"ID{SECRET}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"token{SECRET}")
    monkeypatch.setenv("STOCKROOM_FETCH_TIMEOUT", "1")
    with socket.socket() as probe:  # a port where nobody listens
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with StockRoom(repository) as stock:
        stock.add_remote("origin", "s3://bucket/x", endpoint_url=endpoint)
    code = subprocess.run(
        [sys.executable, "-c", QUICK, "-C", str(repository), "-v", "push"], check=False, timeout=60
    ).returncode
    assert code == 13
    assert SECRET not in "".join(capfd.readouterr())
    assert find_files_with(SECRET, tmp_path) == []


@pytest.mark.parametrize(
    "endpoint",
    [
        f"http://user:{SECRET}@127.0.0.1:1",
        f"http://user:{SECRET.replace('t', '%74')}@127.0.0.1:1",
        f"http://{SECRET}@127.0.0.1:1",
        f"http://user:{SECRET}/{SECRET}@127.0.0.1:1",
        f"http://127.0.0.1:1/?sig={SECRET}",
        f"http://127.0.0.1:1/#{SECRET}",
        f"user:{SECRET}@127.0.0.1:1",
        f"ftp://user:{SECRET}@127.0.0.1:1",
        f"http://user:{SECRET}@[bad",
    ],
)
def test_a_secret_in_the_endpoint_of_the_environment_is_masked_everywhere(
    repository: Path, tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("STOCKROOM_FETCH_TIMEOUT", "1")
    with StockRoom(repository) as stock:
        stock.add_remote("origin", "s3://bucket/x")
    for option in ("--no-color", "-v", "--json"):
        done = subprocess.run(
            [sys.executable, "-c", QUICK, "-C", str(repository), option, "fetch"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode != 0
        for form in (SECRET, SECRET.replace("t", "%74")):
            assert form not in done.stdout + done.stderr
    assert find_files_with(SECRET, tmp_path) == []


@pytest.mark.parametrize("url", [f"https:user:{SECRET}@host/x", f"s3:/AKIA:{SECRET}@bucket/x", f"user:{SECRET}@host:x"])
def test_what_looks_like_credentials_is_no_folder(
    repository: Path, tmp_path: Path, url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["-C", str(repository), "remote", "add", "origin", url]) == 1
    assert main(["-C", str(repository), "-v", "clone", url, str(tmp_path / "clone")]) == 1
    assert SECRET not in "".join(capfd.readouterr())
    assert find_files_with(SECRET, tmp_path) == []


QUICK = """
import sys
from stockroom.remotes.transport.retry import RetryPolicy
RetryPolicy.choose_pause_s = lambda *_: 0.001
from stockroom.cli import main
sys.exit(main(sys.argv[1:]))
"""


def find_files_with(text: str, root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
