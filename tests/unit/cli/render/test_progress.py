"""Progress on stderr: heartbeats where there is no terminal, a bar where there is one."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from stockroom.cli.render.progress import Heartbeat, show_progress, tell_heartbeat
from stockroom.cli.render.progress_bar import BarProgress, RateColumn, make_bar


class AnnouncingStream(io.StringIO):
    """Sets an event when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def flush(self) -> None:
        super().flush()
        self.written.set()


def test_a_heartbeat_comes_while_the_work_itself_is_silent() -> None:
    stream = AnnouncingStream()
    with tell_heartbeat("import", stream=stream, interval_s=0.01) as progress:
        progress.update("image (1/2)", 1200, total=5000, nbytes=3 << 20)
        stream.written.clear()
        assert stream.written.wait(timeout=10)
        assert stream.written.wait(timeout=10)
    assert "image (1/2): 1200 of 5000, 3.0 MiB, 0 s\n" in stream.getvalue()


def test_short_work_says_nothing() -> None:
    stream = io.StringIO()
    with tell_heartbeat("commit", stream=stream):
        pass
    assert stream.getvalue() == ""


def test_a_heartbeat_stops_when_the_work_fails() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="bad"), tell_heartbeat("x", stream=io.StringIO(), interval_s=0.01):
        raise ValueError("bad")
    assert threading.active_count() == before


def test_an_unknown_total_is_left_out() -> None:
    assert Heartbeat("fsck").line() == "fsck: 0 s"


def test_quiet_starts_no_thread() -> None:
    before = threading.active_count()
    with show_progress("x", bar=True, quiet=True) as progress:
        progress.update("x", 1)
        assert threading.active_count() == before


def test_a_bar_shows_count_and_rate_and_never_reads_markup() -> None:
    screen = io.StringIO()
    bar = make_bar()
    columns = [column for column in bar.columns if not isinstance(column, str)]
    shown = RichProgress(*columns, console=Console(file=screen, force_terminal=True, width=120))
    progress = BarProgress(shown, shown.add_task("import", total=None))
    with shown:
        progress.update("[red]image", 10, total=40, nbytes=40960)
    assert "[red]image" in screen.getvalue()
    assert "10/40" in screen.getvalue()


def test_a_rate_is_in_samples_and_bytes() -> None:
    now = [0.0]
    bar = RichProgress(console=Console(file=io.StringIO()), get_time=lambda: now[0])
    task_id = bar.add_task("import", total=100)
    for done in (0, 10, 20):
        bar.update(task_id, completed=done, nbytes=done * 2048)
        now[0] += 1.0
    assert RateColumn().render(bar.tasks[0]).plain == "10/s 20.0 KiB/s"
