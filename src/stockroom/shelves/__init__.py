"""What users hold: the `StockRoom` handle and its shelves."""

from stockroom.shelves.column import Column
from stockroom.shelves.data import DataShelf
from stockroom.shelves.handle import StockRoom
from stockroom.shelves.history import Commit
from stockroom.shelves.model import ModelShelf
from stockroom.shelves.state import LeafInfo, State

__all__ = ["Column", "Commit", "DataShelf", "LeafInfo", "ModelShelf", "State", "StockRoom"]
