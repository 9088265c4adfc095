"""A process that has imported the command line, and forks a child for each command: the imports take most of its time.

A child is a process of its own with the folder, the environment and the files it was given, and it ends as the program
does. What the interpreter reads as it starts is not changed by a fork: such commands start a new interpreter.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "OMP_")
_LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_FSIZE)
_HEADER_NBYTES = 4


class ForkServer:
    """Runs `stock` in forked children; it ends with the process that made it."""

    def __init__(self) -> None:
        mine, theirs = socket.socketpair()
        self._socket = mine
        command = [sys.executable, "-m", "tests.kit.fork_server", str(theirs.fileno())]
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path}
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
        self._pid = os.getpid()
        self._starting = _describe_start(os.environ)
        theirs.close()

    def can_run(self, environment: Mapping[str, str]) -> bool:
        """Whether a child of this server is what a new interpreter in `environment` would be."""
        return self._pid == os.getpid() and _describe_start(environment) == self._starting

    def run(
        self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `stock` with `arguments`, and return what it printed."""
        mine, theirs = socket.socketpair()
        files = [os.memfd_create(name) for name in ("out", "err")]
        with mine:
            with theirs:
                socket.send_fds(self._socket, [b"."], [theirs.fileno(), *files])
            request = {"folder": os.fspath(folder), "environment": dict(environment), "umask": _read_umask()}
            _send(mine, {"arguments": list(arguments), **request})
            child = _receive(mine)
            mine.settimeout(timeout_s)
            try:
                code = _receive(mine)
            except TimeoutError:
                os.kill(child, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), timeout_s) from None
        texts = [os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "surrogateescape") for file in files]
        for file in files:
            os.close(file)
        return subprocess.CompletedProcess(["stock", *arguments], code, *texts)


def _describe_start(environment: Mapping[str, str]) -> tuple[object, ...]:
    variables = {name: value for name, value in environment.items() if name.startswith(_AT_START)}
    return os.getuid(), variables, [resource.getrlimit(limit) for limit in _LIMITS]


def _read_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _send(connection: socket.socket, message: Any) -> None:
    data = json.dumps(message).encode("ascii")
    connection.sendall(len(data).to_bytes(_HEADER_NBYTES, "little") + data)


def _receive(connection: socket.socket) -> Any:
    nbytes = int.from_bytes(_read(connection, _HEADER_NBYTES), "little")
    return json.loads(_read(connection, nbytes))


def _read(connection: socket.socket, nbytes: int) -> bytes:
    data = b""
    while len(data) < nbytes:
        part = connection.recv(nbytes - len(data))
        if not part:
            raise EOFError("the other side closed the connection")
        data += part
    return data


def _serve(requests: socket.socket) -> None:
    """Fork a keeper for each request, until the other side is gone; returns in the child that is to run a command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, files, *_ = socket.recv_fds(requests, 1, 3)
        if not data:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _keep(socket.socket(fileno=files[0]), *files[1:])
            return
        for file in files:
            os.close(file)


def _keep(connection: socket.socket, out: int, err: int) -> None:
    """Fork a child and tell how it ended; returns in the child, made ready to run the command."""
    request = _receive(connection)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(request, out, err)
        return
    _send(connection, child)
    _, status = os.waitpid(child, 0)
    _send(connection, os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(request: dict[str, Any], out: int, err: int) -> None:
    os.dup2(out, 1)
    os.dup2(err, 2)
    for file in (out, err):
        os.close(file)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.path[0] = str(Path.cwd())
    sys.argv[:] = ["stock", *request["arguments"]]


def _import_everything() -> None:
    from stockroom.cli import verbs

    for module in pkgutil.walk_packages(verbs.__path__, f"{verbs.__name__}."):
        importlib.import_module(module.name)
    importlib.import_module("stockroom.shelves.stock.stock")
    gc.freeze()


def _main() -> NoReturn:
    from stockroom.cli import main

    _import_everything()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.exit(main())


if __name__ == "__main__":
    _main()
