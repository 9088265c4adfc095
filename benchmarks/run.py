"""Measures Stockroom beside its limits and prints how it compares with its targets.

    python benchmarks/run.py [NAME...] [--scale] [--quick] [--json] [--profile] [--whole-import]
                             [--page FILE] [--folder DIR] [--list]

Exits with 1 if a target is missed, but not with --quick: the targets are for the full sizes.
"""

from __future__ import annotations

import argparse
import cProfile
import dataclasses
import json
import os
import platform
import pstats
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import commands
import experiments
import git_tie
import history
import importing
import merging
import models
import reading
import remotes
import scale
import sessions
import sizes
import torch_loading
import upkeep
import writing
from materials import FULL, QUICK, Materials
from row import Row, format_figure
from timing import Stopwatch

Benchmark = Callable[[Materials], Iterator[Row]]

BENCHMARKS: Sequence[Benchmark] = (
    reading.batches_of_small,
    reading.batches_of_large,
    reading.one_sample,
    torch_loading.loader_epoch,
    writing.bulk_write_small,
    writing.per_sample_writes,
    writing.bulk_write_large,
    writing.import_memory,
    importing.import_images,
    history.commit_one_change,
    history.open_and_read,
    history.checkout,
    history.diff_ten_changes,
    merging.merge_branches,
    merging.merge_bases,
    sizes.metadata_on_disk,
    sizes.pickled_dataset,
    remotes.whole_transfers,
    remotes.metadata_clone,
    remotes.lazy_epoch,
    remotes.sparse_reads,
    models.first_save,
    models.save_again,
    models.load_whole,
    models.load_one_tensor,
    models.frozen_backbone,
    experiments.log_calls,
    experiments.exp_show,
    sessions.side_by_side,
    commands.whole_commands,
    upkeep.fsck,
    upkeep.reads_after_repack,
    upkeep.gc_memory,
    git_tie.git_checkout,
)
SCALE: Sequence[Benchmark] = (
    scale.many_packs,
    scale.many_commits,
    scale.repack_of_many,
    scale.wide,
    scale.push_of_changed_labels,
    scale.index_of_many_chunks,
    scale.work_in_many_samples,
)
"""Work at sizes that the others do not have: many packs, many commits, wide tables, 10^8 samples."""
HEADINGS = ("work", "limit", "product", "ratio", "target", "")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
NOTES = (
    "limit and product are medians; ratio is the product's rate over the limit's. Samples are random bytes, kept raw.",
    "The limit of commit and checkout is one small file written and synced: the least that durability costs here.",
    "Commit, open, checkout and diff have samples of 40 bytes, each a chunk under its digest as one of 3 KiB would be.",
)


def main() -> int:
    """Run what was asked for; the exit status."""
    options = _parse_arguments()
    chosen = _choose(options.names, is_scale=options.scale)
    if options.list:
        for benchmark in chosen:
            print(f"{benchmark.__name__:20} {benchmark.__doc__}")
        return 0
    profiler = cProfile.Profile() if options.profile else None
    sizes_chosen = QUICK if options.quick else FULL
    if options.whole_import:
        sizes_chosen = dataclasses.replace(sizes_chosen, streamed_nbytes=writing.WHOLE_IMPORT_NBYTES, image_stride=1)
    with tempfile.TemporaryDirectory(prefix="stockroom-bench-", dir=options.folder) as folder:
        materials = Materials(Path(folder), sizes_chosen, Stopwatch(profiler))
        rows = list(_run(chosen, materials, profiler))
    print(_encode(rows)) if options.json else _print_table(rows)
    if options.page is not None:
        _write_page(options.page, rows)
    return 0 if options.quick or all(row.is_reached for _, row in rows) else 1


def _choose(names: Sequence[str], *, is_scale: bool) -> Sequence[Benchmark]:
    if names:
        return [benchmark for benchmark in (*BENCHMARKS, *SCALE) if benchmark.__name__ in names]
    return SCALE if is_scale else BENCHMARKS


def _parse_arguments() -> argparse.Namespace:
    names = [benchmark.__name__ for benchmark in (*BENCHMARKS, *SCALE)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(names)}; all if none is named"
    )
    parser.add_argument("--scale", action="store_true", help="run the benchmarks of scale instead of the others")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of a table")
    parser.add_argument("--profile", action="store_true", help="profile the product's side (which slows it)")
    parser.add_argument("--whole-import", action="store_true", help="stream 20 GiB in import_memory; take all images")
    parser.add_argument("--page", type=Path, help="also put the table into this page, such as docs/performance.md")
    parser.add_argument("--folder", type=Path, help="where to work; must be on the disk to be measured")
    parser.add_argument("--list", action="store_true", help="say what each benchmark does")
    options = parser.parse_args()
    for name in set(options.names) - set(names):
        parser.error(f"no benchmark {name!r}; there are: {', '.join(names)}")
    return options


def _run(
    chosen: Sequence[Benchmark], materials: Materials, profiler: cProfile.Profile | None
) -> Iterator[tuple[str, Row]]:
    for benchmark in chosen:
        print(f"{benchmark.__name__} ...", file=sys.stderr, flush=True)
        for row in benchmark(materials):
            verdict = "ok" if row.is_reached else "miss"
            print(f"  {row.work}: {format_figure(row.product, row.unit)} {verdict}", file=sys.stderr, flush=True)
            yield benchmark.__name__, row
        if profiler is not None:
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(25)
            profiler.clear()


def _print_table(rows: Sequence[tuple[str, Row]]) -> None:
    table = Table(caption="\n".join(NOTES), caption_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "work" else "right")
    for _, row in rows:
        *cells, verdict = _make_cells(row)
        table.add_row(*map(escape, cells), f"[green]{verdict}" if row.is_reached else f"[red]{verdict}")
    width = None if sys.stdout.isatty() else 140
    Console(width=width).print(table)


def _write_page(page: Path, rows: Sequence[tuple[str, Row]]) -> None:
    """Replace the table between the marks of a page."""
    lines = [HEADINGS, ("---", "---:", "---:", "---:", "---:", "---"), *(_make_cells(row) for _, row in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{page}: expected the lines {BEGIN} and {END} around the table")
    page.write_text(f"{before}{begin}\n{table}{end}{after}", "utf-8")


def _make_cells(row: Row) -> tuple[str, ...]:
    limit = "-" if row.limit is None else format_figure(row.limit, row.unit)
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}x"
    return row.work, limit, format_figure(row.product, row.unit), ratio, row.target, "ok" if row.is_reached else "miss"


def _encode(rows: Sequence[tuple[str, Row]]) -> str:
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "system": platform.system()}
    listed = [
        {"benchmark": name} | dataclasses.asdict(row) | {"ratio": row.ratio, "target": row.target, "ok": row.is_reached}
        for name, row in rows
    ]
    document = {"version": 1, "python": platform.python_version(), "machine": machine, "rows": listed}
    return json.dumps(document, indent=2)


if __name__ == "__main__":
    sys.exit(main())
