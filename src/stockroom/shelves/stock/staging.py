"""A handle's methods that change the stage by path, and that put staged changes aside: rm, mv, amend and stash."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stockroom.refs import StashEntry, get_stash, list_stashes
from stockroom.shelves.stock.handle import Handle, parse_author

if TYPE_CHECKING:
    from stockroom.content.merge.strategy import Strategy
    from stockroom.shelves.report import Stash


class StagingActions(Handle):
    """The methods of `StockRoom` that change the stage. A handle that does not write opens the stage for the call."""

    def rm(
        self,
        *paths: str,
        recursive: bool = False,
        force: bool = False,
        dry_run: bool = False,
        missing_ok: bool = False,
    ) -> tuple[str, ...]:
        """Stage the removal of columns, models, values, metrics or artifacts, or of single keys; return their paths.

        Args:
            paths: such as `data/label`, `data/label/17`, `model/net`, or a folder such as `data/train`.
            recursive: remove everything below a folder.
            force: remove what has staged changes, too.
            dry_run: stage nothing, only return the paths.
            missing_ok: ignore paths that name nothing.

        Raises `NotFoundError`, `InvalidInputError` or `ConflictError`, and then stages nothing.
        """
        from stockroom.repository.restage import Removal, remove  # here for start-up time

        how = Removal(recursive=recursive, force=force, dry_run=dry_run, missing_ok=missing_ok)
        with self._staging() as workspace:
            return tuple(map(str, remove(workspace, paths, how)))

    def mv(self, old: str, new: str, *, force: bool = False) -> tuple[tuple[str, str], ...]:
        """Stage a rename of a column, model, value, metric, artifact or folder, or of a key in its column.

        Writes no sample. Returns the old and new paths. `force` replaces what has the new name. Raises `NotFoundError`,
        `InvalidInputError` or `InvalidNameError`, and then stages nothing.
        """
        from stockroom.repository.restage import move  # here for start-up time

        with self._staging() as workspace:
            return tuple((str(before), str(after)) for before, after in move(workspace, old, new, force=force))

    def amend(
        self,
        message: str | None = None,
        *,
        author: tuple[str, str] | None = None,
        allow_empty: bool = False,
        **metadata: Any,
    ) -> str:
        """Replace the last commit by one that also has the staged changes, and return its full hex digest.

        It keeps the parents, the metadata, and, unless given, the message and the author; its time is now. `undo`
        brings back the old one. Raises `NothingToCommitError` if there is no commit, or it would change nothing.
        """
        from stockroom.repository.amend import amend  # here for start-up time

        identity = None if author is None else parse_author(author)
        commit = amend(self._stage_writer(), message, metadata, identity, allow_empty=allow_empty)
        self._pin_to(self._writer().head)
        return commit.hex()

    # -- stashes

    @property
    def stashes(self) -> tuple[Stash, ...]:
        """The stashes, the newest first: `stash@{0}`, `stash@{1}` and so on."""
        refs = self._repository.refs
        return tuple(self._describe(number, entry) for number, entry in enumerate(list_stashes(refs)))

    def stash(self, message: str | None = None, *, paths: Sequence[str] = ()) -> Stash | None:
        """Put the staged changes aside, or those at `paths`; return the stash, or None if nothing is staged there.

        A stash belongs to this repository only: no push or clone takes it. gc keeps it until it is dropped.
        """
        from stockroom.repository.restage import resolve_places  # here for start-up time
        from stockroom.repository.stash import push_stash

        with self._staging() as workspace:
            places = resolve_places([workspace.snapshot, workspace.base], paths) if paths else None
            pushed = push_stash(workspace, message, places)
        return None if pushed is None else self.stashes[0]

    def apply_stash(self, name: str = "stash@{0}", strategy: Strategy = None, *, drop: bool = False) -> Stash:
        """Merge a stash into the staged changes, and return it. Samples merge by key, models by tensor, as in `merge`.

        Args:
            name: `stash@{1}`, or its number.
            strategy: decides conflicts, as in `merge`; `ours` is what is staged.
            drop: also drop it, as `pop_stash` does.

        Raises `MergeConflictError` if both changed the same; then nothing is changed, and the stash is kept.
        """
        from stockroom.repository.stash import apply_stash  # here for start-up time
        from stockroom.shelves.stock.merges import make_options

        stash, entry = self._open_stash(name)
        with self._staging() as workspace:
            apply_stash(workspace, entry, make_options(workspace, None, strategy), drop=drop)
        return stash

    def pop_stash(self, name: str = "stash@{0}", strategy: Strategy = None) -> Stash:
        """Merge a stash into the staged changes and drop it, as `apply_stash` does."""
        return self.apply_stash(name, strategy, drop=True)

    def drop_stash(self, name: str = "stash@{0}") -> Stash:
        """Drop a stash, and return it; `stock show ID` still shows it until gc deletes it."""
        from stockroom.repository.stash import drop_stashes  # here for start-up time

        stash, entry = self._open_stash(name)
        drop_stashes(self._repository, [entry])
        return stash

    def clear_stashes(self) -> tuple[Stash, ...]:
        """Drop all stashes, and return them."""
        from stockroom.repository.stash import drop_stashes  # here for start-up time

        stashes, entries = self.stashes, list_stashes(self._repository.refs)
        if entries:
            drop_stashes(self._repository, entries)
        return stashes

    def get_stash(self, name: str = "stash@{0}") -> Stash:
        """Return the stash of that name or number; raises `RefNotFoundError` if there is none."""
        return self._open_stash(name)[0]

    def _open_stash(self, name: str) -> tuple[Stash, StashEntry]:
        refs = self._repository.refs
        entry = get_stash(refs, name)
        return self._describe(list_stashes(refs).index(entry), entry), entry

    def _describe(self, number: int, entry: StashEntry) -> Stash:
        from stockroom.shelves.report import Stash  # here for start-up time

        record = self._repository.read_commit(entry.commit)
        time = datetime.fromtimestamp(record.time_ns / 1e9, UTC)
        return Stash(f"stash@{{{number}}}", entry.commit.hex(), record.message, time)
