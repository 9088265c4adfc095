"""What users hold: the `StockRoom` handle and its shelves."""
