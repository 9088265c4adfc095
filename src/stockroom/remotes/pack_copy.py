"""Checks a remote's copy of a pack against the digests in its manifest, by downloading it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError
from stockroom.remotes.transport.protocol import MissingFileError, StoredFile, Transport
from stockroom.remotes.transport.whole_file import download_file
from stockroom.store.upkeep.verify import Apply, Damage, PackFindings, check_pack

PUSH_REPAIR: Final = "run `stock push --repair` where it is whole"


def check_files(found: Mapping[str, StoredFile], digest: PackDigest, sizes: Mapping[str, int]) -> list[Damage]:
    """Return a problem for each file of a pack that is missing on a remote, or has another size."""
    problems = []
    for path, nbytes in sizes.items():
        file = found.get(path)
        if file is None or file.nbytes != nbytes:
            what = "is missing" if file is None else f"has {file.nbytes} bytes, expected {nbytes}"
            problems.append(Damage(f"pack {digest.hex()}", f"{path.rpartition('/')[2]} {what}", PUSH_REPAIR))
    return problems


def check_copy(
    transport: Transport, digest: PackDigest, sizes: Mapping[str, int], *, folder: Path, apply: Apply = map
) -> PackFindings:
    """Return the findings of a check of a remote's copy of a pack.

    Downloads it into `folder`, and removes it again. `apply` is `map`, or that of an executor.
    """
    directory = folder / digest.hex()
    directory.mkdir()
    try:
        for path, nbytes in sizes.items():
            download_file(transport, path, directory / path.rpartition("/")[2], nbytes)
        findings = check_pack(directory, apply=apply)
    except (MissingFileError, CorruptionError) as error:
        return PackFindings((Damage(f"pack {digest.hex()}", str(error), PUSH_REPAIR),), (), None, 0)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return replace(findings, damage=tuple(replace(damage, repair=PUSH_REPAIR) for damage in findings.damage))
