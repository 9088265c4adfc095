"""Every check of the project: `nox -s tests`, or `nox` for all but the benchmarks."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import nox
from nox.command import CommandFailed

TORCH = "torch==2.13.0"  # the build the suite is run with; any torch of the extra's range works for users

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint", "types", "imports", "docs", "demo"]


def install(session: nox.Session, *packages: str, torch: bool = False, extra: str = "") -> None:
    """Install stockroom and `packages`; with `torch`, the pinned build first, which nothing may then replace.

    An editable install keeps `nox -R` truthful while the source changes; CI tests the built wheel.
    """
    # Not in `create_tmp()`: that makes temporary files of the session lie in this clone, where everything is in git.
    constraints = Path(session.virtualenv.location, "constraints.txt")
    constraints.write_text(f"{TORCH}\n")
    if torch:
        session.install(TORCH)
    project = f".[{extra}]" if extra else "."
    editable = [] if os.environ.get("CI") else ["-e"]
    session.install("-c", str(constraints), *packages, *editable, project)


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite on three processes (some of it waits for servers); arguments go to pytest."""
    for program, package in (("nginx", "nginx-light"), ("node", "nodejs")):
        if not any(Path(folder, program).exists() for folder in (*os.environ["PATH"].split(":"), "/usr/sbin")):
            session.warn(f"{program} is not installed ({package}): the tests of its transport will be skipped")
    install(session, torch=True, extra="test")
    session.run("pytest", "-n", "3", "--dist", "loadfile", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Version real images, train on them, relabel some, push and read lazily; arguments go to the demo."""
    install(session, "scikit-learn>=1.5", "moto[s3,server]>=5.1.6", torch=True, extra="remote")
    session.run("python", "demo/fashion_mnist.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Every target of the benchmarks against its limit; arguments go to the runner."""
    install(session, torch=True, extra="test")
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session
def scale(session: nox.Session) -> None:
    """The benchmarks at sizes of 10,000 packs and commits and 10^8 samples, for an hour at most; `-- --quick` in CI."""
    install(session, torch=True, extra="test")
    session.run("timeout", "3600", "python", "benchmarks/run.py", "--scale", *session.posargs, external=True)


@nox.session
def kill(session: nox.Session) -> None:
    """The long campaign: a thousand kills of all that writes, and a stop at every change of the disk in turn."""
    install(session, torch=True, extra="test")
    session.env.setdefault("STOCKROOM_KILLS", "400")
    session.env.setdefault("STOCKROOM_UPKEEP_KILLS", "500")
    session.env.setdefault("STOCKROOM_CRASH_POINTS", "100000")
    names = ("kill_campaign", "kill_upkeep", "remote_kills", "crash_points")
    tests = [f"tests/integration/test_{name}.py" for name in names]
    session.run("pytest", "-s", "-o", "timeout=3600", *tests, *session.posargs)


@nox.session
def powercut(session: nox.Session) -> None:
    """The long campaign: everything that a power cut can leave of init, commit, push, clone, fetch and gc is tried."""
    install(session, torch=True, extra="test")
    session.env.setdefault("STOCKROOM_POWER_CUTS", "100000")
    session.run("pytest", "-s", "-o", "timeout=3600", "tests/integration/test_power_cut.py", *session.posargs)


@nox.session
def merges(session: nox.Session) -> None:
    """The long campaign: ten thousand random histories merged as the textbook says."""
    install(session, torch=True, extra="test")
    session.env.setdefault("STOCKROOM_MERGES", "10000")
    session.run("pytest", "-n", "2", "-o", "timeout=3600", "tests/property/test_merge_histories.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Every decoder of bytes under a coverage-guided fuzzer, 20 s each; `-- --seconds 300 node` for longer."""
    install(session, torch=True, extra="test")
    try:
        session.install("atheris>=2.3")
    except CommandFailed:
        session.skip("atheris does not install here (it has wheels for Linux only): nothing was fuzzed")
    session.run("python", "-m", "tests.fuzz.coverage_guided", *session.posargs, success_codes=[0, 77])


def search(session: nox.Session, *arguments: str) -> None:
    """Run tests on examples drawn at random, again and again, for `-- --minutes` (5)."""
    parser = argparse.ArgumentParser(prog=f"nox -s {session.name} --")
    parser.add_argument("--minutes", type=float, default=5)
    given, rest = parser.parse_known_args(session.posargs)
    install(session, torch=True, extra="test")
    end = time.monotonic() + 60 * given.minutes
    while time.monotonic() < end:  # by whole rounds
        session.run("pytest", "--hypothesis-profile", "explore", *arguments, *rest)


@nox.session
def explore(session: nox.Session) -> None:
    """Every property and fuzz test on examples drawn at random, again and again for 5 minutes; `-- --minutes 30`."""
    search(session, "-n", "2", "-m", "hypothesis")


@nox.session
def oracle(session: nox.Session) -> None:
    """Two clones and a remote at random, beside plain dictionaries, for 5 minutes; `-- --minutes 60`."""
    session.env.setdefault("STOCKROOM_ORACLE_EXAMPLES", "100")
    session.env.setdefault("STOCKROOM_ORACLE_STEPS", "60")
    search(session, "-s", "-o", "timeout=3600", "tests/property/test_oracle.py")


@nox.session
def lint(session: nox.Session) -> None:
    """Style of code and formatting."""
    session.install("ruff>=0.11")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict, over the package; without torch its subclasses could not be checked."""
    install(session, "mypy>=1.15", torch=True)
    session.run("mypy", *session.posargs)


@nox.session
def imports(session: nox.Session) -> None:
    """The layers: who may import whom."""
    install(session, "import-linter>=2.1")
    session.run("lint-imports", "--cache-dir", session.create_tmp(), *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The site in `site/`: guide, format and notes, and a reference from docstrings; every link leads somewhere."""
    session.run("python", "docs/check_links.py")
    session.install("mkdocs-material>=9.5", "mkdocstrings[python]>=0.27")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})
