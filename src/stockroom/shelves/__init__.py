"""The `StockRoom` handle and its shelves: the objects that users hold."""
