"""Opens the packs of a push, and sends them verified: a damaged pack here must not become one there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Final

from stockroom.digest import Buffer, CommitId, PackDigest, view_bytes
from stockroom.errors import CorruptionError
from stockroom.remotes.format.pack_files import LocalPack
from stockroom.remotes.lazy import make_agent_fetcher
from stockroom.remotes.progress import OnProgress, TransferTally
from stockroom.remotes.push_packs import regroup_packs
from stockroom.remotes.push_plan import PushContents, plan_push
from stockroom.remotes.transport.protocol import Transport
from stockroom.repository.repository import Repository
from stockroom.store.pack.pack import StalePackError
from stockroom.store.upkeep.removal import forbid_removal
from stockroom.store.upkeep.row_copier import PlannedPack
from stockroom.store.upkeep.verify import check_open_pack

_PUTS_AT_ONCE: Final = 8
_PATIENCE_S: Final = 60.0


def open_contents(
    repository: Repository,
    tips: Sequence[CommitId],
    known: Collection[CommitId],
    *,
    avoid: Collection[PackDigest] = (),
    sent: Collection[PackDigest] | None = None,
) -> tuple[PushContents, list[LocalPack], list[PlannedPack]]:
    """Plan a push, and open its packs before gc can remove or rewrite any. Once open, they stay as they are.

    Unless `sent`, the packs sent before, is None, small packs are joined, and packs with other rows are copied without
    them. Also returns the packs that this replaced: `remove_replaced` removes them after the push.

    Raises `LockedError` if another process removes packs for a minute.
    """
    tensors = repository.tensors
    with forbid_removal(tensors, timeout_s=_PATIENCE_S):
        tensors.index.refresh()

        def open_all() -> tuple[PushContents, list[LocalPack], list[PlannedPack]]:
            contents = plan_push(repository, tips, known, avoid=avoid)
            replaced = [] if sent is None else regroup_packs(repository, contents, sent)
            return contents, [LocalPack.open(repository, digest) for digest in contents.packs], replaced

        try:
            return tensors.retry_when_moved(open_all)
        except (StalePackError, FileNotFoundError) as error:
            raise CorruptionError("a pack that the push needs is missing; run `stock fsck --repair`") from error


def make_whole(repository: Repository, packs: Sequence[LocalPack]) -> list[LocalPack]:
    """Return the packs with all of their bytes here; fetch those that are absent.

    Raises `StalePackError` if gc rewrote a pack just after it was fetched.
    """
    partial = [pack.digest for pack in packs if pack.pack.presence is not None]
    if not partial:
        return list(packs)
    with closing(make_agent_fetcher(repository.paths)) as fetcher:
        fetcher.fetch_packs(partial)
    with forbid_removal(repository.tensors, timeout_s=_PATIENCE_S):
        try:
            return [
                LocalPack.open(repository, pack.digest) if pack.pack.presence is not None else pack for pack in packs
            ]
        except FileNotFoundError as error:
            raise StalePackError(error.filename) from error


def send_packs(transport: Transport, packs: Sequence[LocalPack], on_progress: OnProgress | None) -> int:
    """Put the files of packs on a remote, and return their size. Each shard is verified right before it is sent.

    So it is read from the disk once. Raises `CorruptionError` if a pack here is damaged.
    """
    files = [(pack, path, content) for pack in packs for path, content in pack.iter_files()]
    sizes = [len(view_bytes(content)) for _, _, content in files]
    tally = TransferTally("packs", on_progress, total_files=len(files), total_nbytes=sum(sizes))

    def put(file: tuple[LocalPack, str, Buffer], nbytes: int) -> None:
        pack, path, content = file
        if content is pack.pack.mapping:
            check_open_pack(pack.pack)
        transport.put(path, content)
        tally.add(files=1, nbytes=nbytes)

    with _threads(_PUTS_AT_ONCE) as pool:
        for _ in pool.map(put, files, sizes):
            pass
    return sum(sizes)


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool that, after an error, does not start the remaining work."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="put")
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()
