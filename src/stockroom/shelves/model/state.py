"""A stored state for users: a mapping that reads a leaf when it is accessed."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from stockroom.content.nodes import (
    Constant,
    DictNode,
    Leaf,
    ListNode,
    ScalarLeaf,
    StateKey,
    StateNode,
    TupleNode,
    iter_parts,
    measure_leaf,
)
from stockroom.content.structure import Structure
from stockroom.shelves.model.leaf_info import LeafInfo, iter_info
from stockroom.shelves.model.leaf_reader import LeafReader
from stockroom.shelves.model.leaf_values import (
    PIECE_NBYTES,
    LoadOptions,
    Rows,
    ValueMaker,
    assemble,
    iter_pieces,
    make_metadata,
)
from stockroom.shelves.model.names import NodeNames
from stockroom.shelves.read_ahead import ReadAhead

if TYPE_CHECKING:
    from stockroom.remotes.progress import OnProgress
    from stockroom.repository.repository import Repository

_WINDOW_NBYTES: Final = 64 << 20


class OpenState:
    """The state that all views of one stored state share."""

    def __init__(
        self, repository: Repository, reader: LeafReader, *, kind: str, name: str, check_open: Callable[[], None]
    ) -> None:
        self.repository = repository
        self.reader = reader
        self.kind = kind
        self.name = name
        self.check_open = check_open

    @property
    def structure(self) -> Structure:
        """The state's structure."""
        return self.reader.structure

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each leaf in order, by path."""
        return {path: position for position, path in enumerate(self.structure.leaves)}

    @cached_property
    def ahead(self) -> ReadAhead | None:
        """Hints at the next leaves while leaves are read in order; None if all are on this machine."""
        tensors = self.reader.tensors
        leaves = self.structure.leaves
        if not leaves or not tensors.is_partial():
            return None
        tensors.fetcher.start()
        paths = list(leaves)
        nbytes = sum(measure_leaf(leaf) or 0 for leaf in leaves.values()) // len(paths)

        def hint(positions: np.ndarray[Any, np.dtype[np.int64]], goes_on: bool) -> None:
            digests = self.reader.list_stored(self.structure.list_stored(paths[n] for n in positions.tolist()))
            if len(digests):
                tensors.hint(tensors.locate(digests), goes_on=goes_on)

        return ReadAhead(len(paths), nbytes, hint)

    def make(self, path: str, options: LoadOptions, wanted: set[str] | None = None) -> Any:
        """Return the value of the node at a path, with all parts or those in `wanted`; reads its leaves at once."""
        maker = ValueMaker(self.reader, options)
        maker.read(leaf for leaf in self.structure.list_leaves(path) if wanted is None or leaf in wanted)
        return assemble(self.structure.nodes[path], path, maker.make, wanted)  # type: ignore[arg-type]

    def iter_lazily(self, paths: Iterable[str]) -> Iterator[Any]:
        """Yield the values of the nodes at `paths`, with their leaves read at once; dicts in them are lazy states."""
        maker = ValueMaker(self.reader)
        maker.read(leaf for path in paths for leaf in self.structure.list_leaves(path, into_dicts=False))
        for path in paths:
            yield _assemble_lazily(self, self.structure.nodes[path], path, maker)


class State(Mapping[StateKey, Any]):
    """A lazy nested state, or a dict in one: opening it reads only its structure, and accessing a leaf reads that leaf.

    Dicts in it are lazy too. Accessing a list or tuple reads all of it except the dicts. Values belong to the caller;
    changing them does not change the state. `load` returns everything as it was saved.

    If the top of a state is a list or tuple, its keys are positions. If it is a single leaf, there are no keys.
    """

    def __init__(self, opened: OpenState, path: str = "") -> None:
        self._opened = opened
        self._node = opened.structure.nodes[path]
        self._path = path
        self._names = NodeNames(opened.structure, path, owner=f"{opened.kind} {opened.name!r}")

    @property
    def name(self) -> str:
        """The name it is saved under."""
        return self._opened.name

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The small JSON mapping it was saved with; read-only."""
        return MappingProxyType(dict(getattr(self._opened.reader.record, "metadata", {})))

    @property
    def _metadata(self) -> Any:
        """A state dict's own `_metadata`, which `load_state_dict` looks for."""
        return make_metadata(self._node) if isinstance(self._node, DictNode) else None

    @property
    def nbytes(self) -> int:
        """The number of raw bytes of all leaves in it; memory that several leaves share counts once."""
        stored = self._opened.structure.list_stored(self._names.leaves)
        entries = self._opened.reader.get_entries(stored)
        return sum(entry.nbytes for entry in entries.values())

    def load(
        self, names: StateKey | Iterable[StateKey] | None = None, *, rows: Rows = None, as_numpy: bool = False
    ) -> Any:
        """Return containers and values as they were saved, owned by the caller; reads all at once, mapped if possible.

        Args:
            names: keys, paths as `paths()` returns them, or patterns of paths such as `encoder.*`. Only the leaves that
                they select are read, and only the containers around those are returned.
            rows: a slice, positions or a mask: load only these rows of axis 0 of every array that has axes. For large
                tensors, only the chunks that hold them are read.
            as_numpy: return torch tensors as numpy arrays; does not import torch.

        Raises `LeafNotFoundError`, `InvalidInputError` for rows out of range, or `AbsentDataError`.
        """
        self._opened.check_open()
        wanted = None if names is None else self._names.choose(names)
        return self._opened.make(self._path, LoadOptions(rows, as_numpy), wanted)

    def copy(self) -> Any:
        """Return `load()`; optimizers call this before they load a state."""
        return self.load()

    def paths(self) -> list[str]:
        """Return the paths of all leaves, in order: the keys and positions above and at each leaf, joined by `/`.

        In a key, `~` is written `~0` and `/` is written `~1`. A str key that is empty or looks like a number has `~2`
        in front.
        """
        self._opened.check_open()
        return [self._names.relative(path) for path in self._names.leaves]

    def none_paths(self) -> list[str]:
        """Return the paths of all None values, which `paths` leaves out."""
        self._opened.check_open()
        walk = self._opened.structure.walk(self._path)
        return [self._names.relative(path) for path, node in walk if isinstance(node, Constant)]

    def leaves(self, names: StateKey | Iterable[StateKey] | None = None) -> Iterator[LeafInfo]:
        """Yield the description of each leaf, or of those that `names` select as in `load`, in order; reads no data."""
        self._opened.check_open()
        opened = self._opened
        for leaf in iter_info(opened.reader, self._list_paths(names)):
            yield replace(leaf, path=self._names.relative(leaf.path)) if self._path else leaf

    def iter_pieces(self, path: str, nbytes: int = PIECE_NBYTES) -> Iterator[np.ndarray[Any, Any]]:
        """Yield the array or tensor at a path, flat and in C order, as numpy arrays of about `nbytes` each.

        Raises `LeafNotFoundError` if there is none, or `AbsentDataError`.
        """
        opened, at = self._opened, self._names.absolute(path)
        opened.check_open()
        if isinstance(opened.structure.leaves.get(at, ScalarLeaf("int")), ScalarLeaf):
            raise self._names.missing(path)
        if opened.ahead is not None:
            opened.ahead.see(np.array([opened.positions[at]], np.int64))
        yield from iter_pieces(opened.reader, at, nbytes=nbytes)

    def at(self, path: str) -> State:
        """Return the dict, list or tuple at a path, as a lazy state; raises `LeafNotFoundError` if there is none."""
        self._opened.check_open()
        at = self._names.absolute(path)
        if not path or not isinstance(self._opened.structure.nodes.get(at), DictNode | ListNode | TupleNode):
            raise self._names.missing(path)
        return State(self._opened, at)

    def read(self, path: str, *, as_numpy: bool = False) -> Any:
        """Return the leaf or None at a path; raises `LeafNotFoundError` for containers too, or `AbsentDataError`."""
        opened, at = self._opened, self._names.absolute(path)
        opened.check_open()
        if at not in opened.structure.leaves:
            if path in self.none_paths():
                return None
            raise self._names.missing(path)
        maker = ValueMaker(opened.reader, LoadOptions(as_numpy=as_numpy))
        maker.read([at])
        return maker.make(at, opened.structure.leaves[at])

    def get_leaf(self, path: str) -> Leaf:
        """Return the leaf at a path as the structure has it; for a tied leaf, the one it is tied to."""
        structure = self._opened.structure
        return structure.leaves[structure.origin(self._names.absolute(path))]

    def present(self) -> float:
        """Return the fraction of its chunks that is on this machine; 1.0 if it has none."""
        self._opened.check_open()
        digests = self.list_chunks()
        return float(self._opened.reader.tensors.is_present(digests).mean()) if len(digests) else 1.0

    def prefetch(
        self, names: StateKey | Iterable[StateKey] | None = None, *, on_progress: OnProgress | None = None
    ) -> None:
        """Fetch the leaves that `names` select, as in `load` (None: all), to this machine; raises `AbsentDataError`."""
        from stockroom.remotes.prefetch import fetch_planned, plan_prefetch

        digests, opened = self.list_chunks(names), self._opened
        fetch_planned(opened.repository, plan_prefetch(opened.reader.tensors, digests), on_progress)

    def list_chunks(self, names: StateKey | Iterable[StateKey] | None = None) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return the digests `(n, 32)` of the stored chunks behind all leaves, or behind those that `names` select."""
        self._opened.check_open()
        return self._opened.reader.list_stored(self._opened.structure.list_stored(self._list_paths(names)))

    # -- as a mapping

    def __getitem__(self, key: Any) -> Any:
        opened = self._opened
        opened.check_open()
        found = self._names.find(key)
        if found is None:
            raise self._names.missing(key)
        path, node = found
        if isinstance(node, DictNode):
            return State(opened, path)
        if opened.ahead is not None and path in opened.positions:
            opened.ahead.see(np.array([opened.positions[path]], np.int64))
        return next(opened.iter_lazily([path]))

    def __contains__(self, key: object) -> bool:
        self._opened.check_open()
        return self._names.find(key) is not None

    def __iter__(self) -> Iterator[StateKey]:
        for key in self._names.keys:
            self._opened.check_open()
            yield key

    def __len__(self) -> int:
        self._opened.check_open()
        return len(self._names.keys)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values in order; iteration reads many leaves at a time."""
        return _StateValues(self)

    def items(self) -> ItemsView[StateKey, Any]:
        """Return a view of the keys and values in order; iteration reads many leaves at a time."""
        return _StateItems(self)

    def iter_items(self) -> Iterator[tuple[StateKey, Any]]:
        """Yield keys and values in order; reads leaves in windows of about 64 MiB."""
        structure = self._opened.structure
        group: dict[StateKey, str] = {}
        nbytes = 0
        for key, path, _ in iter_parts(self._node, self._path):
            group[key] = path
            leaves = structure.list_leaves(path, into_dicts=False)
            nbytes += sum(measure_leaf(structure.leaves[leaf]) or 0 for leaf in leaves)
            if nbytes >= _WINDOW_NBYTES:
                yield from self._make_group(group)
                group, nbytes = {}, 0
        yield from self._make_group(group)

    def _make_group(self, group: Mapping[StateKey, str]) -> Iterator[tuple[StateKey, Any]]:
        self._opened.check_open()
        for key, value in zip(group, self._opened.iter_lazily(group.values()), strict=True):
            self._opened.check_open()
            yield key, value

    def __repr__(self) -> str:
        at = f" at {self._path!r}" if self._path else ""
        return f"<State of {self._opened.kind} {self._opened.name!r}{at}: {len(self._names.leaves)} leaves>"

    def __deepcopy__(self, memo: object) -> Any:
        return self.load()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a lazy state of {self._opened.kind} {self._opened.name!r} cannot be pickled: call `.load()` first"
        )

    # -- internals

    def _list_paths(self, names: StateKey | Iterable[StateKey] | None) -> Sequence[str]:
        """Return the paths of the leaves that `names` select, in order; None selects all."""
        if names is None:
            return self._names.leaves
        wanted = self._names.choose(names)
        return [path for path in self._names.leaves if path in wanted]


class _StateValues(ValuesView[Any]):
    _mapping: State

    def __iter__(self) -> Iterator[Any]:
        for _, value in self._mapping.iter_items():
            yield value


class _StateItems(ItemsView[StateKey, Any]):
    _mapping: State

    def __iter__(self) -> Iterator[tuple[StateKey, Any]]:
        return self._mapping.iter_items()


def _assemble_lazily(opened: OpenState, node: StateNode, path: str, maker: ValueMaker) -> Any:
    """Return lists and tuples with their leaves; dicts become lazy states."""
    if isinstance(node, DictNode):
        return State(opened, path)
    if isinstance(node, ListNode | TupleNode):
        parts = [_assemble_lazily(opened, part, at, maker) for _, at, part in iter_parts(node, path)]
        return parts if isinstance(node, ListNode) else tuple(parts)
    return node.value if isinstance(node, Constant) else maker.make(path, node)
