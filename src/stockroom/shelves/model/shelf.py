"""The model shelf: a nested state of tensors and plain values under each name."""

from __future__ import annotations

from typing import Any

from stockroom.content.html_table import format_table
from stockroom.content.snapshot import MODEL, name_path
from stockroom.content.state import StateRecord
from stockroom.digest import ObjectDigest
from stockroom.errors import ModelNotFoundError
from stockroom.refs.names import check_free_name
from stockroom.shelves.model.leaf_reader import open_leaves
from stockroom.shelves.model.state import OpenState, State
from stockroom.shelves.pin import Shelf


class ModelShelf(Shelf[State]):
    """Models by name. `shelf["name"] = state` saves or replaces a model; `shelf["name"]` is a lazy `State`.

    A state is any nesting of dict, list and tuple that holds tensors of any torch dtype, numpy arrays, int, float,
    complex, bool, str, bytes and None. Saving a state again writes only the tensors that changed, and of large tensors
    only the chunks that changed.
    """

    _shelf = MODEL
    _noun = "model"
    _not_found = ModelNotFoundError

    def __getitem__(self, name: str) -> State:
        pin = self._pin
        pin.note_read(name_path(MODEL, name))
        record = pin.source.find_state(name_path(MODEL, name)) if isinstance(name, str) else None
        if record is None:
            raise self._missing(name)
        reader = open_leaves(pin, record)
        check = pin.check_open
        if isinstance(record, StateRecord):
            check = pin.guard(ObjectDigest(record.structure))
        return State(OpenState(pin.repository, reader, kind="model", name=name, check_open=check))

    def __setitem__(self, name: str, state: object) -> None:
        self.save(name, state)

    def save(self, name: str, state: object, /, **metadata: Any) -> None:
        """Save a state under a name; `metadata` takes JSON values, 64 KiB at most.

        Do not change the tensors during the call. Tensors on a GPU are copied to the host in parts. Raises
        `SchemaError` naming the model and the path of an unsupported value, or `ReadOnlyError`, and then changes
        nothing.
        """
        from stockroom.shelves.model.state_writer import write_state  # here for start-up time

        workspace = self._pin.writer()
        check_free_name("model", name)
        if isinstance(state, State):
            state = state.load()
        record = write_state(workspace, state, where=f"model {name!r}", metadata=metadata)
        workspace.put_states({name_path(MODEL, name): record})

    def _repr_html_(self) -> str:
        return format_table(f"{len(self)} models", ((name,) for name in self))
