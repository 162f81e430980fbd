"""What do thousands of small files cost prepare, beside as many rows in a few files?

Generated payments as 8 files, and as 2,000 of 2,000 rows; two threads. Beside it, what reading the same columns of the
same files takes readers that do nothing else: Polars' streaming scan and pyarrow's dataset.
`benchmarks/score_path.py` asks the same of score.

    python -m benchmarks.small_files [--quick]
"""

# ruff: noqa: E402  what is said before Arrow is loaded
from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rayforest.process_settings import keep_memory

keep_memory()

import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq

import rayforest
from benchmarks.harness import Timing, as_json, interleaved, table, write

PROJECT = Path(__file__).parent.parent / "jobs" / "examples" / "payments.toml"
EVEN_FILES, SMALL_ROWS = 8, 2_000


def main() -> None:
    """Write the files, compare, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few files, one round: whether it runs and agrees")
    options = parser.parse_args()
    rows, rounds = (40_000, 1) if options.quick else (4_000_000, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_layouts(folder, rows)
        roots: Iterator[int] = itertools.count()

        def prepare(layout: str) -> rayforest.StageResult:
            settings = ["run.executor=in-process", "run.workers=2", "data.key=[]", f'data.source="{folder / layout}"']
            return rayforest.prepare(PROJECT, overrides=[*settings, f'project.root="{folder}/out-{next(roots)}"'])

        outcomes = {layout: prepare(layout) for layout in ("even", "small")}
        if len({result.rows_out for result in outcomes.values()}) != 1:
            raise SystemExit("the layouts give other rows")
        ours = interleaved(
            {f"rayforest, {layout}": ("prepare", partial(prepare, layout)) for layout in outcomes}, rounds
        )
        readers = interleaved(
            {
                f"{name}, {layout}": (told, partial(read, folder / layout))
                for layout in outcomes
                for name, (told, read) in READERS.items()
            },
            rounds,
        )
    found = {timing.name: timing for timing in (*ours, *readers)}
    lines = [
        f"# {rows // SMALL_ROWS:,} files of {SMALL_ROWS:,} rows, and {EVEN_FILES} of as many rows together",
        "",
        table(ours, rows),
        "",
        f"- Small files go at {share(found, 'rayforest'):.2f} of the even case's pace.",
        "",
        "## Reading alone, all columns",
        "",
        table(readers, rows),
        "",
        *(f"- {name}: {share(found, name):.2f} of its own even case's pace." for name in READERS),
    ]
    write(
        "small_files", {"rows": rows, "timings": as_json(list(found.values()))}, "\n".join(lines), quick=options.quick
    )


def share(found: dict[str, Timing], name: str) -> float:
    """Pace on small files over that on even ones."""
    return found[f"{name}, even"].ratio_to(found[f"{name}, small"])


def write_layouts(folder: Path, rows: int) -> None:
    """The same rows in folders `even` and `small`."""
    rayforest.generate_payments(folder / "raw", rows=rows, days=EVEN_FILES)
    whole = pq.read_table(folder / "raw")
    for layout, size in (("even", -(-whole.num_rows // EVEN_FILES)), ("small", SMALL_ROWS)):
        (folder / layout).mkdir()
        for place, start in enumerate(range(0, whole.num_rows, size)):
            pq.write_table(whole.slice(start, size), folder / layout / f"{place:05}.parquet", compression="zstd")


def _with_polars(folder: Path) -> object:
    return pl.scan_parquet(folder).collect(engine="streaming")


def _with_pyarrow(folder: Path) -> object:
    return ds.dataset(folder).to_table()


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "Polars": ("scan_parquet, streaming", _with_polars),
    "pyarrow dataset": ("its own threads", _with_pyarrow),
}

if __name__ == "__main__":
    main()
