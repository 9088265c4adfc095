"""Model files that other programs read and write: safetensors, and PyTorch's checkpoints."""

from stockroom.interop.model_file import ModelFile, name_model, read_model_file
from stockroom.interop.safetensors_writer import ExportReport, write_safetensors

__all__ = ["ExportReport", "ModelFile", "name_model", "read_model_file", "write_safetensors"]
