"""Feeds decoders what atheris makes up, led by the code that its inputs reach: `nox -s fuzz`.

    python -m tests.fuzz.coverage_guided [--seconds 20] [NAME...]

Each decoder runs in a process of its own, with 2 GiB of address space at most. What makes one fail is written to
`fuzz-found/`: it belongs in `tests/golden/data/damage_v1/<decoder>/` once the decoder is mended.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

FOUND = Path("fuzz-found")
MAX_INPUT_NBYTES = 8192
NOT_INSTALLED = 77


def main() -> int:
    """Run all decoders asked for; 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if find_spec("atheris") is None:
        print("atheris is not installed here (it has wheels for Linux only): nothing was fuzzed", file=sys.stderr)
        return NOT_INSTALLED
    if options.one:
        return fuzz(options.names[0], options.seconds)
    from tests.fuzz.decoders import DECODERS

    names = options.names or list(DECODERS)
    failed = [name for name in names if not run_apart(name, options.seconds)]
    print(
        f"{len(names)} decoders, {len(failed)} failed: {', '.join(failed)}" if failed else f"{len(names)} decoders: ok"
    )
    return 1 if failed else 0


def run_apart(name: str, seconds: int) -> bool:
    """Whether a decoder, fuzzed in another process, held."""
    words = [sys.executable, "-m", "tests.fuzz.coverage_guided", "--one", "--seconds", str(seconds), name]
    done = subprocess.run(words, capture_output=True, text=True, check=False, errors="replace")
    figures = next((line for line in reversed(done.stderr.splitlines()) if "Done" in line or "DONE" in line), "")
    print(f"{'ok' if done.returncode == 0 else 'FAILED':7}{name:24}{figures.strip()}", flush=True)
    if done.returncode:
        print(done.stdout[-3000:] + done.stderr[-3000:])
    return done.returncode == 0


def fuzz(name: str, seconds: int) -> int:
    """Fuzz one decoder; the process ends within."""
    import atheris

    with atheris.instrument_imports(include=["stockroom"]):
        from tests.fuzz.decoders import DECODERS, run

    decoder = DECODERS[name]
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(decoder.seeds):
            Path(corpus, str(number)).write_bytes(seed)
        longest = max([MAX_INPUT_NBYTES, *map(len, decoder.seeds)])
        settings = [
            f"-max_total_time={seconds}",
            f"-max_len={longest}",
            "-rss_limit_mb=2048",
            "-timeout=10",
            f"-artifact_prefix={FOUND}/{name.replace(' ', '_')}-",
            "-print_final_stats=0",
            corpus,
        ]
        atheris.Setup([sys.argv[0], *settings], lambda data: run(decoder, bytes(data)) and None)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
