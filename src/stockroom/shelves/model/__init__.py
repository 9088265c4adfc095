"""The model shelf: nested states of tensors and plain values."""
