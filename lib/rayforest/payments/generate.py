"""Days of payments into files, one file a day, any number of rows in flat memory.

Every block of rows has random numbers of its own, drawn from the seed, the day and the block's position in it. So a
file depends on nothing but the seed, the day, the rows of that day and the dirt: a later day is added without changing
an earlier one as long as the rows a day stay the same (300,000 rows in 30 days, then 310,000 in 31).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from rayforest.errors import ConfigError, InputError, RefusedError, path_text
from rayforest.payments.block import BLOCK_ROWS, Block, BlockSource
from rayforest.payments.table import FIRST_DAY, SCHEMA
from rayforest.payments.truth import TRUTH_FILE, Generated, TruthCounter, read_truth, write_truth

FileFormat = Literal["parquet", "csv"]
FILE_BLOCKS = 4
"""A day of more blocks than this is written as several files."""
MAX_DAYS = 3650


@dataclass(frozen=True)
class DataFile:
    """A file to write."""

    stem: str
    blocks: tuple[Block, ...]


def generate_payments(
    out: str | Path,
    *,
    rows: int,
    seed: int = 0,
    days: int = 30,
    dirty: float = 0.01,
    format: FileFormat = "parquet",  # noqa: A002 - the option's name
    on_progress: Callable[[int], None] | None = None,
) -> Generated:
    """Write `rows` card payments of `days` days as OUT/2026-01-01.parquet and so on, and OUT/_truth.json.

    The same arguments give the same bytes with the same versions of numpy and pyarrow. Files that an earlier call
    wrote into the folder are replaced or removed, so that the folder holds exactly these rows.

    Args:
        out: the folder; it is made where it does not exist.
        rows: all rows, duplicated keys included; at least 1. The days get equal shares; the first `rows % days` of
            them get one row more, and a day without rows gets no file.
        seed: fixes everything; at least 0.
        days: 1 to 3650, beginning at 2026-01-01.
        dirty: share of the rows that carry a defect, 0 to 1.
        format: "parquet" or "csv".
        on_progress: called with the number of rows written so far, after each block.

    Raises:
        ConfigError: an argument is out of its range, or `out` is no path.
        InputError: the folder cannot be written.
        RefusedError: the folder holds data files that no call of this function wrote.
    """
    _check(rows=rows, seed=seed, days=days, dirty=dirty, format=format)
    out = Path(path_text(out, "there is no folder for the payments", "the path of a folder"))
    plan = plan_files(rows, days)
    files = tuple(out / f"{file.stem}.{format}" for file in plan)
    source = BlockSource(seed, dirty)
    counter = TruthCounter(seed, dirty, [FIRST_DAY + dt.timedelta(days=day) for day in range(days)])
    previous: Block | None = None
    written = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        _clear(out, keep=files)
        for path, file in zip(files, plan, strict=True):
            with _file_writer(path, format) as write:
                for block in file.blocks:
                    drawn = source.draw(block, previous)
                    counter.add(block.day, drawn)
                    write(drawn.table)
                    previous = block
                    written += block.rows
                    if on_progress is not None:
                        on_progress(written)
        truth = counter.finish(files)
        write_truth(out, truth)
    except OSError as error:
        raise InputError(
            f"payments cannot be written to {out}",
            expected="a folder that can be written, with room for the rows",
            found=str(error),
            next_step="choose another folder with --out",
        ) from None
    return truth


def plan_files(rows: int, days: int) -> list[DataFile]:
    """Which rows go into which file, in the order of time."""
    share, rest = divmod(rows, days)
    files: list[DataFile] = []
    for day in range(days):
        rows_of_day = share + (day < rest)
        blocks = [
            Block(day, first, min(BLOCK_ROWS, rows_of_day - first), rows_of_day)
            for first in range(0, rows_of_day, BLOCK_ROWS)
        ]
        date = FIRST_DAY + dt.timedelta(days=day)
        for part in range(0, len(blocks), FILE_BLOCKS):
            stem = f"{date}" if len(blocks) <= FILE_BLOCKS else f"{date}-{part // FILE_BLOCKS:05d}"
            files.append(DataFile(stem, tuple(blocks[part : part + FILE_BLOCKS])))
    return files


@contextmanager
def _file_writer(path: Path, format: FileFormat) -> Iterator[Callable[[pa.Table], None]]:  # noqa: A002
    """Write tables to a file that appears under its name only when it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        if format == "csv":
            # Whole seconds: CSV shows as many decimals as the type has.
            schema = pa.schema([_in_seconds(field) for field in SCHEMA])
            with pyarrow.csv.CSVWriter(partial, schema) as csv:
                yield lambda table: csv.write_table(table.cast(schema))
        else:
            with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as parquet:
                yield lambda table: parquet.write_table(table, row_group_size=BLOCK_ROWS)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _in_seconds(field: pa.Field) -> pa.Field:
    return field.with_type(pa.timestamp("s")) if pa.types.is_timestamp(field.type) else field


def _clear(out: Path, keep: tuple[Path, ...]) -> None:
    """Remove what an earlier call wrote; refuse to touch anything else."""
    truth = out / TRUTH_FILE
    ours = set(read_truth(out).files) if truth.exists() else set()
    there = {path for path in out.iterdir() if path.suffix in (".parquet", ".csv")}
    foreign = there - ours - set(keep)
    if foreign:
        raise RefusedError(
            f"{out} holds {len(foreign)} data file(s) that are not part of this call, such as {min(foreign).name}",
            expected="an empty folder, or one that generate payments wrote",
            next_step="choose another folder with --out, or empty this one",
        )
    truth.unlink(missing_ok=True)
    for path in there - set(keep):
        path.unlink()


def _check(*, rows: int, seed: int, days: int, dirty: float, format: str) -> None:  # noqa: A002
    for option, is_right, expected, found in (
        ("--rows", rows >= 1, "at least 1", rows),
        ("--seed", seed >= 0, "at least 0", seed),
        ("--days", 1 <= days <= MAX_DAYS, f"1 to {MAX_DAYS}", days),
        ("--dirty", 0 <= dirty <= 1, "a share from 0 to 1", dirty),
        ("--format", format in ("parquet", "csv"), "parquet or csv", format),
    ):
        if not is_right:
            raise ConfigError(
                f"{option} of generate payments is out of range",
                expected=expected,
                found=str(found),
                next_step=f"give another {option}",
            )
