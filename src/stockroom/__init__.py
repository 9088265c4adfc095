"""Version control for software 2.0: data, models and experiments as tensors, beside git."""
