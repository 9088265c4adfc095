"""The experiment shelf: values, metrics and artifacts."""
