"""Ordered byte maps on disk: the one package that imports lmdb.

Owns environments, transactions, map growth, fork safety and the translation of LMDB's errors.
Knows nothing of what keys and values mean.
"""

from stockroom.kv.environment import Environment
from stockroom.kv.soundness import list_damage
from stockroom.kv.transaction import MAX_KEY_NBYTES, ReadTxn, WriteTxn

__all__ = ["MAX_KEY_NBYTES", "Environment", "ReadTxn", "WriteTxn", "list_damage"]
