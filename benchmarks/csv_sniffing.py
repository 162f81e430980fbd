"""How much of people's CSV files is loaded right without a word about them?

Pollock (Vitagliano et al., "Pollock: A Data Loading Benchmark", VLDB 2023) has a table in 2,290 polluted forms and real
files, what each holds, and measures: precision, recall and F1 of header, records and cells, 10 points a file. Data and
measures are read from a checkout of it, named by POLLOCK; without one nothing is measured. rayforest reads each file by
what init writes into [data.format], and with its rule against rows without a value. Columns that a file leaves nameless
get rayforest's names, which the measures count as wrong; a header without any row is read, though init asks for rows.

    POLLOCK=path/of/pollock python -m benchmarks.csv_sniffing [--quick]
"""

from __future__ import annotations

import argparse
import csv
import functools
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.harness import write

Table = Iterable[Sequence[str]]
"""Header and rows as text."""

DATASETS = ("polluted_files", "survey_sample")
MEASURES = ("header", "record", "cell")
QUICK_FILES = 20


def main() -> None:
    """Load every file with every contender, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FILES} files of each set")
    quick = parser.parse_args().quick
    checkout = os.environ.get("POLLOCK")
    if checkout is None:
        print("nothing measured: POLLOCK names no checkout of the benchmark")
        return
    try:
        _measures(checkout)
    except ImportError as error:
        print(f"nothing measured: the benchmark's measures need {error.name}")
        return
    results = [score(checkout, dataset, name, quick=quick) for dataset in DATASETS for name in contenders()]
    lines = [
        "# Loading CSV files that nobody described",
        "",
        "Pollock's measures, 10 points at most; each file's settings are guessed from the file.",
        "",
        "| files | contender | refused | header F1 | record F1 | cell F1 | points | weighted points |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(result) for result in results),
    ]
    write("csv_sniffing", {"results": results}, "\n".join(lines), quick=quick)


def contenders() -> dict[str, Callable[[str], Table]]:
    """Those that are installed."""
    found: dict[str, Callable[[str], Table]] = {"rayforest": with_rayforest}
    for name, load in (("duckdb", with_duckdb), ("clevercsv", with_clevercsv)):
        if importlib.util.find_spec(name) is not None:
            found[name] = load
    return found


def with_rayforest(path: str) -> Table:
    """As init writes the format and prepare reads it, every column as text."""
    from rayforest.engine.shards import RowRange
    from rayforest.starter.sniff import sniff
    from rayforest.tables.batch import Source, SourceFile
    from rayforest.tables.csv import read_head
    from rayforest.tables.raw_file import LocalFile
    from rayforest.tables.reading import inspect, read

    form = sniff(LocalFile(path)).format
    names = list(read_head(LocalFile(path), form).names)
    status = Path(path).stat()
    file = SourceFile(Path(path).name, path, status.st_size, str(status.st_mtime_ns), "csv")
    source = Source((path,), Path("/"), format="csv", csv=form)
    found = inspect(file, source, shard_rows=1 << 30)
    rows: list[list[str]] = []
    for piece in found.pieces:
        place = (piece.first_row, piece.rows, piece.byte_start, piece.byte_stop)
        row_range = RowRange(file.path, path, file.size, file.stamp, found.identity, *place)
        for batch in read(row_range, source, names):
            columns = [batch.table.column(index).to_pylist() for index in range(batch.table.num_columns)]
            rows += [[value or "" for value in row] for row in zip(*columns, strict=True)]
    return [names, *(row for row in rows if any(row))]


def with_duckdb(path: str) -> Table:
    """Its sniffer, with the options that Pollock's own adapter gives, every column as text."""
    import duckdb

    options = {
        "strict_mode": False,
        "ignore_errors": True,
        "null_padding": True,
        "all_varchar": True,
        "parallel": False,
    }
    relation = duckdb.connect().read_csv(path, **options)
    return [relation.columns, *([value or "" for value in row] for row in relation.fetchall())]


def with_clevercsv(path: str) -> Table:
    """Its dialect detection; rows as they are, the first one being the header."""
    import clevercsv

    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    dialect = clevercsv.Sniffer().sniff(text)
    return list(clevercsv.reader(text.splitlines(keepends=True), dialect))


def score(checkout: str, dataset: str, contender: str, *, quick: bool) -> dict[str, Any]:
    """Means over the files of a set."""
    folder = Path(checkout) / dataset
    names = sorted(file.name for file in (folder / "clean").iterdir() if (folder / "csv" / file.name).exists())
    names = names[:: max(1, len(names) // QUICK_FILES)] if quick else names
    work = functools.partial(_points, checkout, dataset, contender)
    with ProcessPoolExecutor() as pool:
        points = dict(zip(names, pool.map(work, names, chunksize=8), strict=True))
    weights: dict[str, float] = json.loads((Path(checkout) / "pollock_weights.json").read_text())
    weighed = {name: weights[name] for name in names if name in weights} if dataset == DATASETS[0] else {}
    total = sum(weighed.values())
    return {
        "files": dataset,
        "contender": contender,
        "count": len(names),
        "refused": sum(not own[0] for own in points.values()),
        **{f"{m}_f1": sum(own[3 + 3 * i] for own in points.values()) / len(names) for i, m in enumerate(MEASURES)},
        "points": sum(map(sum, points.values())) / len(names),
        "weighted": sum(sum(points[name]) * weight for name, weight in weighed.items()) / total if total else None,
    }


def _points(checkout: str, dataset: str, contender: str, name: str) -> list[float]:
    """Whether the file was loaded, then precision, recall and F1 of header, records and cells."""
    metrics = _measures(checkout)
    folder = Path(checkout) / dataset
    try:
        table = contenders()[contender](str(folder / "csv" / name))
    except Exception:
        return [0.0] * 10
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="", encoding="utf-8") as loaded:
        csv.writer(loaded).writerows(table)
        loaded.flush()
        measured = metrics.header_record_cell_measures_csv(str(folder / "clean" / name), loaded.name)
    return [1.0, *map(float, measured)]


@functools.cache
def _measures(checkout: str) -> Any:
    """The benchmark's own module, which normalises each cell anew; the same text is normalised once here."""
    sys.path.append(checkout)
    csv.field_size_limit(1 << 30)
    metrics = importlib.import_module("pollock.metrics")
    metrics.normalize_cell = functools.lru_cache(1 << 18)(metrics.normalize_cell)
    return metrics


def _line(result: dict[str, Any]) -> str:
    shown = [f"{result[f'{measure}_f1']:.3f}" for measure in MEASURES]
    weighted = "" if result["weighted"] is None else f"{result['weighted']:.2f}"
    cells = [f"{result['files']} ({result['count']})", result["contender"], str(result["refused"]), *shown]
    return f"| {' | '.join([*cells, format(result['points'], '.2f'), weighted])} |"


if __name__ == "__main__":
    main()
