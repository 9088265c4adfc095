"""The fetch agent uses the credentials of whoever asks, as they are at that moment, and keeps them to itself."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.kit.accounts import Accounts, variables_of
from tests.kit.programs import end_agents, find_agents, run_stock
from tests.kit.servers import BUCKET

from stockroom import AuthenticationError, StockRoom
from stockroom.remotes.agent.address import choose_socket_path

SAMPLES = np.random.default_rng(4).integers(0, 256, (6, 200_000), dtype=np.uint8)
READ = "import sys; from stockroom import StockRoom; StockRoom(sys.argv[1]).data['x'][int(sys.argv[2])]"


@pytest.fixture
def accounts(s3_server: str) -> Iterator[Accounts]:
    with Accounts(s3_server) as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a user without credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return home


@pytest.fixture
def clone(accounts: Accounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone without samples; the environment has the key `first`, which its remote lets in."""
    use(monkeypatch, accounts.allow("first"))
    with StockRoom.init(tmp_path / "source") as source:
        with source.enable_write("Samples"):
            source.data["x"] = SAMPLES
        source.add_remote("origin", f"s3://{BUCKET}/{tmp_path.name}", endpoint_url=accounts.url)
        source.push()
    StockRoom.clone(
        f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "clone", metadata_only=True, endpoint_url=accounts.url
    ).close()
    return tmp_path / "clone"


def use(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Put credentials into the environment of this process."""
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the credentials out of the environment of this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def write_profile(home: Path, key: str) -> None:
    (home / ".aws/credentials").write_text(
        f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret-of-{key}\n"
    )


def read_elsewhere(clone: Path, sample: int, variables: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Read a sample in a new process with other credentials."""
    command = [sys.executable, "-c", READ, str(clone), str(sample)]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, check=False, timeout=120)


def test_a_new_process_reads_with_its_new_key_while_an_old_notebook_is_open(
    clone: Path, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StockRoom(clone) as notebook:
        assert np.array_equal(notebook.data["x"][0], SAMPLES[0])
        (agent,) = find_agents(clone)
        new = accounts.allow("second")
        assert read_elsewhere(clone, 1, new).returncode == 0
        assert b"AuthenticationError" in read_elsewhere(clone, 2, {}).stderr
        with pytest.raises(AuthenticationError, match=r"pack [0-9a-f]{12} from remote 'origin'.*InvalidAccessKeyId"):
            notebook.data["x"][2]
        use(monkeypatch, new)
        assert np.array_equal(notebook.data["x"][2], SAMPLES[2])
        assert find_agents(clone) == [agent]


def test_each_set_of_credentials_is_refused_once_for_a_request(
    clone: Path, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts.allow("second")
    with StockRoom(clone) as stock:
        accounts.seen.clear()
        with pytest.raises(AuthenticationError):
            stock.data["x"][1]
        assert accounts.seen == ["first"]
        use(monkeypatch, {**variables_of("second"), "AWS_SECRET_ACCESS_KEY": "mistyped"})
        with pytest.raises(AuthenticationError, match="SignatureDoesNotMatch"):
            stock.data["x"][1]
        assert accounts.seen == ["first", "second"]


def test_credentials_that_expire_are_asked_for_again_in_the_middle_of_a_read(
    clone: Path, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program renews its token while its read waits."""
    use(monkeypatch, accounts.allow("hourly", token="token-of-eleven"))
    with StockRoom(clone) as stock:
        assert np.array_equal(stock.data["x"][0], SAMPLES[0])
        accounts.expired.add("hourly")
        renewed = accounts.allow("next", token="token-of-twelve")
        accounts.on_refusal = lambda: use(monkeypatch, renewed)
        assert np.array_equal(stock.data["x"][1], SAMPLES[1])
        assert accounts.seen[-2:] == ["hourly", "next"]


def test_an_expired_token_ends_the_command_with_12(clone: Path, accounts: Accounts) -> None:
    with StockRoom(clone) as notebook:
        assert np.array_equal(notebook.data["x"][0], SAMPLES[0])  # an agent runs
        env = accounts.allow("hourly", token="the-session-token")
        accounts.expired.add("hourly")
        for words in (("prefetch",), ("fetch",), ("cat", "data/x/3")):
            done = run_stock(clone, *words, **env)
            assert (done.returncode, done.stdout) == (12, ""), done.stderr
            assert "the server refused the credentials (ExpiredToken)" in done.stderr
            assert "the-session-token" not in done.stderr


def test_a_profile_that_is_rewritten_is_read_again(
    clone: Path, home: Path, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch)
    write_profile(home, "first")
    with StockRoom(clone) as stock:
        assert np.array_equal(stock.data["x"][0], SAMPLES[0])
        accounts.allow("second")
        write_profile(home, "second")
        accounts.seen.clear()
        assert np.array_equal(stock.data["x"][1], SAMPLES[1])
        assert accounts.seen == ["second"]


def test_a_profile_whose_program_gives_new_credentials_is_asked_again(
    clone: Path, home: Path, tmp_path: Path, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file of the profile changes; the server's refusal is the sign."""
    forget(monkeypatch)
    found = tmp_path / "found.json"

    def give(key: str) -> None:
        names = {"AccessKeyId": key, "SecretAccessKey": f"secret-of-{key}", "Expiration": "2999-01-01T00:00:00Z"}
        found.write_text(json.dumps({"Version": 1, **names}))

    (home / ".aws/config").write_text(f"[profile program]\ncredential_process = cat {found}\n")
    monkeypatch.setenv("AWS_PROFILE", "program")
    give("first")
    with StockRoom(clone) as stock:
        assert np.array_equal(stock.data["x"][0], SAMPLES[0])
        accounts.allow("second")
        give("second")
        assert np.array_equal(stock.data["x"][1], SAMPLES[1])
        accounts.allow("third")
        with pytest.raises(AuthenticationError):
            stock.data["x"][2]


def test_a_profile_in_a_relative_file_is_found_by_the_agent(
    clone: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch)
    write_profile(home, "first")
    (home / ".aws/credentials").rename(home / "mine")
    monkeypatch.chdir(home)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "mine")
    with StockRoom(clone) as stock:
        assert np.array_equal(stock.data["x"][0], SAMPLES[0])


def test_a_profile_that_does_not_exist_is_an_error_that_names_it(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    with StockRoom(clone) as stock, pytest.raises(AuthenticationError, match=r"profile 'nowhere'.*could not be found"):
        stock.data["x"][0]


def test_the_agent_keeps_credentials_in_memory_only(
    clone: Path, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, accounts.allow("first", token="the-session-token"))
    monkeypatch.setenv("http_proxy", "http://user:the-password@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("VAULT_TOKEN", "the-other-token")
    secrets = ("secret-of-first", "the-session-token", "the-password", "the-other-token")
    with StockRoom(clone) as stock:
        assert np.array_equal(stock.data["x"][0], SAMPLES[0])
        accounts.allow("second")
        with pytest.raises(AuthenticationError):
            stock.data["x"][1]
        (agent,) = find_agents(clone)
        shown = [Path(f"/proc/{agent}/{name}").read_bytes() for name in ("environ", "cmdline")]
        files = [path for path in clone.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
        assert any(path.name == "log" for path in files)
        for content in [*shown, *(path.read_bytes() for path in files)]:
            assert not any(secret.encode() in content for secret in secrets)


IMPOSTOR = """
import os, socket, sys
from stockroom.remotes.agent import protocol
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
folder, name = os.path.split(sys.argv[1])
os.chdir(folder)
listener.bind(name)  # an address is limited to about 100 bytes
os.chmod(name, 0o777)
os.setuid(65534)
listener.listen()
print("listens", flush=True)
connection, _ = listener.accept()
protocol.send(connection, protocol.Welcome(protocol.PROTOCOL, os.getpid()))
while True:
    request = protocol.receive_request(connection)
    if isinstance(request, protocol.Use):
        print(request.variables, flush=True)
        protocol.send(connection, protocol.NeedCredentials())
        continue
    protocol.send(connection, protocol.Failed("AbsentDataError", "none here"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")
def test_an_agent_of_another_user_gets_no_credentials(clone: Path) -> None:
    """A folder of a stranger may have a socket with his own program behind it."""
    end_agents(clone)
    path = choose_socket_path(clone / ".stockroom")
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    command = [sys.executable, "-c", IMPOSTOR, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as impostor:
        assert impostor.stdout is not None
        assert impostor.stdout.readline() == "listens\n"
        with StockRoom(clone) as stock, pytest.raises(Exception, match="none here"):
            stock.data["x"][0]
        assert set(impostor.stdout.read().split()) == {"{}"}
