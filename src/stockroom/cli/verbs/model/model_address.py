"""What the verbs under `stock model` take: `[REV:]NAME`, or `[REV:]NAME/PART` for a container within one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockroom.cli.address import MODEL_SHELF, split_name

if TYPE_CHECKING:
    from stockroom import State, StockRoom

METAVAR = "[REV:]NAME[/PART]"


@dataclass(frozen=True, slots=True)
class ModelPart:
    """A model of a commit, or a container within it: `part` is its path there, empty for the whole."""

    name: str
    part: str
    state: State

    @property
    def path(self) -> str:
        """As `stock show` takes it: `model/NAME/PART`."""
        return "/".join([MODEL_SHELF, self.name, *([self.part] if self.part else [])])

    def full_path(self, leaf: str) -> str:
        """The path within the model of a leaf of the part."""
        return "/".join(path for path in (self.part, leaf) if path)


def find_model(stock: StockRoom, path: str) -> tuple[str, str]:
    """The name of the model that `path` begins with, and what follows; `model/` may stand before it.

    Raises `ModelNotFoundError`, with names near to it.
    """
    names = list(stock.model)
    plain = path.removeprefix(f"{MODEL_SHELF}/")
    is_named = any(path == name or path.startswith(f"{name}/") for name in names)
    name, part = split_name(MODEL_SHELF, path if is_named else plain, names)
    return name, part or ""


def open_part(stock: StockRoom, path: str) -> ModelPart:
    """The model at `path`, or the container in it; `ModelNotFoundError`, `LeafNotFoundError`."""
    name, part = find_model(stock, path)
    state = stock.model[name]
    return ModelPart(name, part, state.at(part) if part else state)
