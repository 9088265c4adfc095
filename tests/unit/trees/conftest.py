"""Nodes in memory, shared by the tests of a file."""

from __future__ import annotations

import pytest

from stockroom.testing.memory_nodes import MemoryNodes


@pytest.fixture(scope="module")
def store() -> MemoryNodes:
    return MemoryNodes()
