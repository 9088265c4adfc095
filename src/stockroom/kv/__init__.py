"""Ordered byte maps on disk: the one package that imports lmdb.

Owns environments, transactions, map growth, fork safety and the translation of LMDB's errors.
Knows nothing of the meaning of keys and values.
"""

from stockroom.kv.environment import Environment
from stockroom.kv.soundness import check_structure, list_damage
from stockroom.kv.transaction import MAX_KEY_NBYTES, ReadTxn, WriteTxn

__all__ = ["MAX_KEY_NBYTES", "Environment", "ReadTxn", "WriteTxn", "check_structure", "list_damage"]
