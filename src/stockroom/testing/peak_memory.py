"""How much memory a process has held, as Linux tells it."""

from __future__ import annotations

from pathlib import Path


def read_peak_nbytes() -> int:
    """The most memory that this process has had resident so far, in bytes; `FileNotFoundError` without a `/proc`.

    Not getrusage's maximum: a process inherits that from the one that started it, so that what takes less than its
    parent seems to take nothing.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
