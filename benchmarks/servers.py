"""An S3 server on loopback for the benchmarks: ministack, in an environment of its own, else moto."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "stockroom-material" / "ministack"
BUCKET = "benchmarks"
KEYS = {"AWS_ACCESS_KEY_ID": "benchmarks", "AWS_SECRET_ACCESS_KEY": "benchmarks", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, with the bucket `BUCKET`."""

    name: str
    endpoint_url: str


@contextmanager
def start_server() -> Iterator[Server]:
    """A server for the time of the block; this process has keys for it meanwhile."""
    port = _find_port()
    command, environment = _choose_server(port)
    os.environ.update(KEYS)
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = Server(Path(command[0]).name if "moto" not in command[-1] else "moto", f"http://127.0.0.1:{port}")
    try:
        _wait_for(server.endpoint_url, process)
        _make_bucket(server.endpoint_url)
        yield server
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


def _choose_server(port: int) -> tuple[list[str], dict[str, str]]:
    program = CACHE / "bin" / "ministack"
    if not program.exists():
        with suppress(subprocess.CalledProcessError, OSError):
            subprocess.run([sys.executable, "-m", "venv", str(CACHE)], check=True)
            subprocess.run([str(CACHE / "bin" / "pip"), "install", "--quiet", "ministack>=1.5.33"], check=True)
    if program.exists():
        environment = {
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "SERVICES": "s3",
        }
        return [str(program)], environment
    print("ministack cannot be installed: measuring with moto, which is slow", file=sys.stderr)
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], {}


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError("the S3 server does not start")


def _make_bucket(url: str) -> None:
    request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
    with urllib.request.urlopen(request, timeout=30):
        pass
