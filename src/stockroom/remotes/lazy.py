"""Chooses what brings absent bytes when a repository is read: its fetch agent, or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from stockroom.errors import MalformedRecordError
from stockroom.locks import make_fork_lock
from stockroom.repository.config import Settings, read_settings
from stockroom.repository.paths import RepositoryPaths
from stockroom.store.fetcher import Fetcher, NoFetcher, Wanted

if TYPE_CHECKING:
    from stockroom.remotes.agent.fetcher import AgentFetcher

OFF_VARIABLE: Final = "STOCKROOM_NO_LAZY_FETCH"


def choose_fetcher(lazy: bool) -> Callable[[RepositoryPaths], Fetcher]:
    """What makes the fetcher of a repository that is opened with `lazy`, as the environment allows."""
    if not lazy:
        return lambda _: NoFetcher("this handle was opened with lazy=False: fetch them first with `stock prefetch`")
    if os.environ.get(OFF_VARIABLE, "") not in ("", "0"):
        return lambda _: NoFetcher(f"{OFF_VARIABLE} is set: unset it, or fetch them first with `stock prefetch`")
    return _make_chosen_fetcher


def make_agent_fetcher(paths: RepositoryPaths) -> AgentFetcher:
    """What fetches through the repository's agent, for those who ask by name: `prefetch`, `clone`, `push`, `drop`."""
    from stockroom.remotes.agent.fetcher import AgentFetcher  # here for start-up time

    return AgentFetcher(
        paths.state,
        has_remotes=lambda: _has_remotes(paths),
        find_timeout_s=lambda: _read_settings(paths).fetch_timeout_s,
    )


def _make_chosen_fetcher(paths: RepositoryPaths) -> Fetcher:
    """What fetches, or, where the repository's settings say so, nothing."""
    if _read_settings(paths).lazy_fetch is not False:
        return _AgentWhenNeeded(paths)
    return NoFetcher("fetch.lazy is off here: fetch them first with `stock prefetch`, or set it with `stock config`")


class _AgentWhenNeeded:
    """What fetches through the repository's agent, made once something is to be fetched: most processes never do."""

    def __init__(self, paths: RepositoryPaths) -> None:
        self._paths = paths
        self._lock = make_fork_lock()
        self._made: AgentFetcher | None = None

    @property
    def _agent(self) -> AgentFetcher:
        with self._lock:  # of many threads that read, one makes it
            if self._made is None:
                self._made = make_agent_fetcher(self._paths)
            return self._made

    @property
    def why(self) -> str:
        """As the agent's fetcher says."""
        return self._agent.why

    def fetch(self, wanted: Wanted, *, is_bulk: bool = False) -> None:
        """Have the agent bring units."""
        self._agent.fetch(wanted, is_bulk=is_bulk)

    def hint(self, wanted: Wanted, *, goes_on: bool = False) -> None:
        """Tell the agent what will be wanted."""
        self._agent.hint(wanted, goes_on=goes_on)

    def start(self) -> None:
        """Have the agent start, if there is a remote."""
        self._agent.start()

    def close(self) -> None:
        """Leave the agent, if it was asked for anything."""
        if self._made is not None:
            self._made.close()


def _read_settings(paths: RepositoryPaths) -> Settings:
    """The settings; none where they are damaged, since reading goes on without."""
    try:
        return read_settings(paths.config)
    except (OSError, MalformedRecordError):
        return Settings()


def _has_remotes(paths: RepositoryPaths) -> bool:
    from stockroom.remotes.settings import read_remotes

    return bool(read_remotes(paths))
