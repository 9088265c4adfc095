"""Chooses how absent bytes are fetched when a repository is read: through its fetch agent, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from stockroom.errors import MalformedRecordError
from stockroom.fork_locks import make_fork_lock
from stockroom.repository.config import Settings, read_settings
from stockroom.repository.paths import RepositoryPaths
from stockroom.store.fetcher import Fetcher, NoFetcher, Wanted

if TYPE_CHECKING:
    from stockroom.remotes.agent.fetcher import AgentFetcher

OFF_VARIABLE: Final = "STOCKROOM_NO_LAZY_FETCH"


def choose_fetcher(lazy: bool) -> Callable[[RepositoryPaths], Fetcher]:
    """Return the function that makes the fetcher of a repository opened with `lazy`, as the environment allows."""
    if not lazy:
        return lambda _: NoFetcher("this handle was opened with lazy=False: fetch them first with `stock prefetch`")
    if os.environ.get(OFF_VARIABLE, "") not in ("", "0"):
        return lambda _: NoFetcher(f"{OFF_VARIABLE} is set: unset it, or fetch them first with `stock prefetch`")
    return _make_chosen_fetcher


def make_agent_fetcher(paths: RepositoryPaths) -> AgentFetcher:
    """Make a fetcher that uses the repository's agent, for explicit requests: `prefetch`, `clone`, `push`, `drop`."""
    from stockroom.remotes.agent.fetcher import AgentFetcher  # here for start-up time
    from stockroom.remotes.settings import read_remotes

    return AgentFetcher(
        paths.folder,
        has_remotes=lambda: bool(read_remotes(paths)),
        find_timeout_s=lambda: _read_settings(paths).fetch_timeout_s,
    )


def _make_chosen_fetcher(paths: RepositoryPaths) -> Fetcher:
    """Make a fetcher, which fetches nothing if the repository's settings say so."""
    if _read_settings(paths).lazy_fetch is not False:
        return _AgentWhenNeeded(paths)
    return NoFetcher("fetch.lazy is off here: fetch them first with `stock prefetch`, or set it with `stock config`")


class _AgentWhenNeeded:
    """A fetcher that is made on first use: most processes never need the agent."""

    def __init__(self, paths: RepositoryPaths) -> None:
        self._paths = paths
        self._lock = make_fork_lock()
        self._made: AgentFetcher | None = None

    @property
    def _agent(self) -> AgentFetcher:
        with self._lock:  # only one of many reading threads makes it
            if self._made is None:
                self._made = make_agent_fetcher(self._paths)
            return self._made

    @property
    def why(self) -> str:
        """The reason that the agent's fetcher gives."""
        return self._agent.why

    def fetch(self, wanted: Wanted, *, is_bulk: bool = False) -> None:
        """Have the agent fetch units."""
        self._agent.fetch(wanted, is_bulk=is_bulk)

    def hint(self, wanted: Wanted, *, goes_on: bool = False) -> None:
        """Tell the agent which units will be wanted."""
        self._agent.hint(wanted, goes_on=goes_on)

    def start(self) -> None:
        """Start the agent, if there is a remote."""
        self._agent.start()

    def close(self) -> None:
        """Disconnect from the agent, if it was used."""
        if self._made is not None:
            self._made.close()


def _read_settings(paths: RepositoryPaths) -> Settings:
    """Read the settings; use the defaults if they are damaged, since reading works without them."""
    try:
        return read_settings(paths.config)
    except (OSError, MalformedRecordError):
        return Settings()
