"""What does a shard cost when there are a million of them?

The real steps of prepare (survey, exchange of keys, duplicates, exchange of places, main step, merges, publishing) on
tables that are not there: each shard makes up a few keys, of which every hundredth is repeated. The store counts
requests and bytes, and keeps its files in an SQLite database, so that what the process holds is what a driver and its
tasks hold. Up to 10,000 shards everything is run. Of more, the survey and the main step are put in finished but for
1,000 shards, and resumed; all that lies between and behind them is run.

What larger shards would cost is computed by the same planning code, and the computation is held to what was counted.

    python -m benchmarks.million_shards [--quick] [--shards 1000 10000 ...]
"""

from __future__ import annotations

import argparse
import io
import math
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import BinaryIO, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.engine import Peak
from benchmarks.harness import write
from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Destination, Version, plan_key
from rayforest.engine.document import WHOLE_BYTES
from rayforest.engine.exchange import FAN_IN, SortedFiles, next_level
from rayforest.engine.executors import InProcess
from rayforest.engine.merging import merged
from rayforest.engine.plan import Plan
from rayforest.engine.policy import Policy
from rayforest.engine.progress import Progress
from rayforest.engine.publish import clean, publish
from rayforest.engine.record import Record, attempt_path, encode_record, record_path, step_folder
from rayforest.engine.run import run_step
from rayforest.engine.shards import InputFile, NumberedShards, Piece, Shard, plan_shards
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.store import Entry
from rayforest.features.profile import ColumnProfile, Profile
from rayforest.formats import PROFILE, TIMES
from rayforest.preparing.repeated_keys import KEYS_A_TASK, MOST_FILES, RepeatedKeys, find_repeated_keys
from rayforest.preparing.split import TimeSketch
from rayforest.preparing.survey import HASHES, SURVEY, key_hashes

BYTES_A_KEY = 17
"""In a file of hashes, as measured."""
RUN_WHOLE = 10_000
"""Up to so many shards everything is run."""
SIZES, FEW = (1_000, 10_000, 100_000, 1_000_000), (100, 400)
"""Shards; of a quick run."""
KEYS = 10
"""Of each shard that is run."""
VARIETY = 1_000
"""Different sidecars among those that are put in."""
LEFT = 1_000
"""Shards of a million that are run and not put in."""
SURVEYING, PREPARING = "survey", "main step"
"""Phases whose shards may be put in finished."""

WRITES_USD, READS_USD = 0.005 / 1000, 0.0004 / 1000
"""List prices a request of S3 Standard, us-east-1: PUT and LIST; GET and HEAD. DELETE costs nothing."""
PRICES = {"PUT": WRITES_USD, "LIST": WRITES_USD, "GET": READS_USD, "HEAD": READS_USD, "DELETE": 0.0}
LIST_KEYS = 1_000
"""Files in one answer to a LIST."""


class CountingStore:
    """Files in an SQLite database; requests are counted as an object store bills them, by phase of a run."""

    concurrency = 1

    def __init__(self, path: Path) -> None:
        self.uri = f"counting://{path.name}"
        self.requests: Counter[tuple[str, str]] = Counter()
        """(phase, kind) -> requests."""
        self.phase = ""
        """Of the run, for which requests are counted."""
        self.bytes: Counter[str] = Counter()
        """Of GET and PUT."""
        self._database, self._lock = sqlite3.connect(path, check_same_thread=False, isolation_level=None), Lock()
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-16384"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE files (path TEXT PRIMARY KEY, data BLOB, at REAL) WITHOUT ROWID")

    def count(self, kind: str, size: int = 0) -> None:
        with self._lock:
            self.requests[self.phase, kind] += 1
            self.bytes[kind] += size

    def get(self, path: str) -> bytes:
        data = self.peek(path)
        self.count("GET", len(data or b""))
        if data is None:
            raise FileNotFoundError(path)
        return data

    def create(self, path: str, data: bytes) -> bool:
        self.count("PUT", len(data))
        with self._lock:
            made = self._database.execute("INSERT OR IGNORE INTO files VALUES (?, ?, ?)", (path, data, time.time()))
            return made.rowcount == 1

    @contextmanager
    def open_write(self, path: str) -> Iterator[BinaryIO]:
        buffer = io.BytesIO()
        yield buffer
        self.create(path, buffer.getvalue())

    def open_read(self, path: str) -> pa.NativeFile:
        self.count("HEAD")
        data = self.peek(path)
        if data is None:
            raise FileNotFoundError(path)
        return pa.PythonFile(_CountedFile(self, data), mode="r")

    def list(self, prefix: str) -> Iterator[Entry]:
        last, stop = f"{prefix}/", f"{prefix}0"
        query = "SELECT path, length(data), at FROM files WHERE path > ? AND path < ? ORDER BY path LIMIT ?"
        while True:
            self.count("LIST")
            with self._lock:
                page = self._database.execute(query, (last, stop, LIST_KEYS)).fetchall()
            yield from (Entry(*row) for row in page)
            if len(page) < LIST_KEYS:
                return
            last = page[-1][0]

    def size(self, path: str) -> int | None:
        self.count("HEAD")
        with self._lock:
            row = self._database.execute("SELECT length(data) FROM files WHERE path = ?", (path,)).fetchone()
        return None if row is None else int(row[0])

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.count("DELETE")
            with self._lock:
                self._database.execute("DELETE FROM files WHERE path = ?", (path,))

    def locate(self, path: str) -> str:
        return f"{self.uri}/{path}"

    def peek(self, path: str) -> bytes | None:
        """A file, not counted."""
        with self._lock:
            row = self._database.execute("SELECT data FROM files WHERE path = ?", (path,)).fetchone()
        return None if row is None else row[0]

    def put_in(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Many files, not counted."""
        with self._lock:
            self._database.executemany("INSERT INTO files VALUES (?, ?, 0)", files)


class _CountedFile(io.BytesIO):
    """Each read is a range request."""

    def __init__(self, store: CountingStore, data: bytes) -> None:
        super().__init__(data)
        self._store = store

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if data:
            self._store.count("GET", len(data))
        return data


def keys_of(shard: int) -> pa.Table:
    """What a survey would find in a shard: keys of its own, but that each tenth shard has one of the shard before."""
    own = np.random.default_rng(shard).integers(0, 2**64, (KEYS, 2), np.uint64)
    if shard % 10 == 9:
        own[KEYS // 2] = np.random.default_rng(shard - 1).integers(0, 2**64, (KEYS, 2), np.uint64)[0]
    columns = [own[:, 0], own[:, 1], np.full(KEYS, shard, np.int32), np.arange(KEYS)]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=HASHES)


def profile_of(shard: int) -> Profile:
    """With a thousand categories of ten thousand, and a histogram."""
    rng = np.random.default_rng(shard)
    categories = pl.Series(rng.integers(0, 10_000, KEYS)).cast(pl.String)
    columns = {"category": ColumnProfile.of(categories), "number": ColumnProfile.of(pl.Series(rng.normal(0, 9, KEYS)))}
    return Profile(columns, parts=Counter(train=KEYS))


def times_of(shard: int) -> TimeSketch:
    return TimeSketch.of(np.arange(KEYS) + float(shard))


@dataclass(frozen=True)
class Survey:
    """What SurveyTask leaves, of keys that are made up."""

    hashes: SortedFiles
    schema: ClassVar[pa.Schema] = HASHES

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        attempt.count_in(KEYS)
        self.hashes.write(attempt, keys_of(shard.index))
        attempt.sidecar(TIMES.write(times_of(shard.index).as_dict()))


@dataclass(frozen=True)
class ManyKeys:
    """So many keys a shard, none of which is repeated."""

    hashes: SortedFiles
    keys: int
    schema: ClassVar[pa.Schema] = HASHES

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        attempt.count_in(self.keys)
        halves = np.random.default_rng(shard.index).integers(0, 2**64, (2, self.keys), np.uint64)
        columns = [*halves, np.full(self.keys, shard.index, np.int32), np.arange(self.keys)]
        rows = pa.Table.from_arrays([pa.array(column) for column in columns], schema=HASHES)
        self.hashes.write(attempt, rows)


@dataclass(frozen=True)
class Main:
    """What PrepareTask asks and leaves: places of repeated keys, rows, quarantine, a profile."""

    repeated: RepeatedKeys
    schema: ClassVar[pa.Schema] = pa.schema([("row", pa.int64())])

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        positions = self.repeated.of(shard.index).tolist()
        if positions != ([KEYS // 2] if shard.index % 10 == 9 else []):
            raise SystemExit(f"shard {shard.index} was told of other repeated keys: {positions}")
        attempt.count_in(KEYS)
        attempt.write(pa.table({"row": range(KEYS - len(positions))}, schema=self.schema))
        for position in positions:
            row = {"file": ["f"], "row": [position], "reason": ["the key is repeated"], "raw": ["{}"]}
            attempt.quarantine(pa.table(row))
        attempt.sidecar(PROFILE.write(profile_of(shard.index).as_dict()))


def no_progress(progress: Progress) -> None:
    """Tell nothing."""


def planned(version: Version, shards: int) -> Plan:
    """Files of a hundred row groups, each of them a shard."""
    files = (
        InputFile(
            f"part-{first:07d}.parquet",
            f"/data/part-{first:07d}.parquet",
            1 << 20,
            str(first),
            f"{first:064x}",
            tuple(Piece(n * KEYS, KEYS, 0, 0, 1 << 20) for n in range(min(100, shards - first))),
        )
        for first in range(0, shards, 100)
    )
    return version.write_plan(plan_shards(files, shard_rows=KEYS, shard_bytes=1 << 30))


@dataclass
class Ran:
    """A run of so many shards."""

    shards: int
    requests: dict[str, Counter[str]] = field(default_factory=dict)
    """Phase -> kind -> requests, without the reading of what was put in."""
    written: int = 0
    read: int = 0
    """Bytes."""
    steps: list[tuple[str, float, float]] = field(default_factory=list)
    """(what, seconds, MiB of the process at most)."""
    put_in: int = 0
    """Shards of survey and main step that were put in finished."""

    def a_shard(self, kind: str) -> float:
        """Requests of a kind a shard."""
        return sum(self.of_phase(phase).get(kind, 0.0) for phase in self.requests)

    def of_phase(self, phase: str) -> dict[str, float]:
        """Requests of a phase a shard, by kind."""
        shards = self.shards - self.put_in if phase in {SURVEYING, PREPARING} else self.shards
        return {kind: requests / shards for kind, requests in self.requests[phase].items()}

    @property
    def usd_a_million(self) -> float:
        return 1e6 * sum(PRICES[kind] * self.a_shard(kind) for kind in PRICES)

    @property
    def mib(self) -> float:
        return max(mib for _, _, mib in self.steps)


def run(shards: int, folder: Path, *, left: int | None = None) -> Ran:
    """Prepare so many shards. With `left`, all but so many are put in finished."""
    store = CountingStore(folder / f"{shards}.sqlite")
    ran = Ran(shards)

    @contextmanager
    def watched(what: str) -> Iterator[None]:
        store.phase = what
        with Peak() as peak:
            yield
        ran.steps.append((what, peak.seconds, peak.most / (1 << 20)))
        print(f"  {shards:,} shards: {what} {peak.seconds:.0f} s, {ran.steps[-1][2]:.0f} MiB", file=sys.stderr)

    executor, policy = InProcess(2), Policy()
    with watched("claim and plan"):
        version = Destination(store).claim(plan_key({"shards": shards}, []), {})
        plan = planned(version, shards)
    hashes = key_hashes(version, shards)
    if left is not None:
        ran.put_in = shards - left
        with watched("(survey put in)"):
            put_in_surveyed(store, version.base, ran.put_in)
    with watched(SURVEYING):
        keys = run_step(version, plan, Survey(hashes), executor, step=SURVEY).rows_out
    with watched("exchange of keys and places"):
        repeated = find_repeated_keys(version, shards, keys, executor, policy, no_progress)
    with watched("merge of times"):
        times = merged(version, plan, TIMES, TimeSketch, executor, step=SURVEY)
        assert sum(times.counts.values()) == keys
    main = Main(repeated)
    if left is not None:
        with watched("(main step put in)"):
            put_in_prepared(store, version.base, ran.put_in)
    with watched(PREPARING):
        totals = run_step(version, plan, main, executor)
        assert (totals.rows_in, totals.rows_quarantined) == (shards * KEYS, (shards - ran.put_in) // 10)
    with watched("merge of profiles"):
        profile = merged(version, plan, PROFILE, Profile, executor)
        assert profile.parts["train"] == shards * KEYS
    with watched("publish and clean"):
        manifest = publish(version, plan, extra={"profile.json": PROFILE.write(profile.as_dict())})
        clean(version)
        assert manifest.rows_in == shards * KEYS
    for (phase, kind), requests in store.requests.items():
        ran.requests.setdefault(phase, Counter())[kind] += requests
    if ran.put_in:
        for phase in (SURVEYING, PREPARING):  # a run of all would find none of them
            ran.requests[phase].subtract(GET=ran.put_in)
            ran.requests[phase]["LIST"] = 1
    ran.written, ran.read = store.bytes["PUT"], store.bytes["GET"]
    return ran


def put_in_surveyed(store: CountingStore, base: str, shards: int) -> None:
    """What the survey leaves of the first shards, put into the store at once."""
    sidecars = [TIMES.write(times_of(shard).as_dict()) for shard in range(VARIETY)]

    def files() -> Iterator[tuple[str, bytes]]:
        for shard in range(shards):
            file = io.BytesIO()
            pq.write_table(keys_of(shard).sort_by("hash_a"), file, compression="none", use_dictionary=False)
            yield from finished(base, SURVEY, shard, file.getvalue(), sidecars[shard % VARIETY])

    store.put_in(files())


def put_in_prepared(store: CountingStore, base: str, shards: int) -> None:
    """The same of the main step, whose data files nothing reads; of repeated keys it tells nothing."""
    sidecars = [PROFILE.write(profile_of(shard).as_dict()) for shard in range(VARIETY)]
    store.put_in(
        file for shard in range(shards) for file in finished(base, "", shard, b"rows", sidecars[shard % VARIETY])
    )


def finished(base: str, step: str, shard: int, data: bytes, sidecar: bytes) -> list[tuple[str, bytes]]:
    """The files of a finished shard."""
    folder, token = step_folder(base, step), f"{shard:016x}"
    path, beside = (
        attempt_path(folder, *kind)
        for kind in (("data", shard, token, "parquet"), ("records", shard, token, "sidecar"))
    )
    record = Record(shard, token, KEYS, KEYS, 0, path, len(data), f"{shard:064x}", sidecar=beside)
    return [(path, data), (beside, sidecar), (record_path(folder, shard), encode_record(record))]


def computed(shards: int, keys: int) -> Counter[str]:
    """Requests of finding repeated keys, by kind, where each shard has so many keys and none of them is repeated.

    By the planning code of the exchange, and what a task asks for: of each file its record, and then a small file at
    once, of others size, footer and, for each piece that the task holds, the row groups of its keys side by side.
    """
    asked, total = Counter[str](), shards * keys
    files, size = key_hashes(Version(MemoryStore("none"), 1, "v"), shards), keys * BYTES_A_KEY

    def tasks(count: int, opened: int, *, write: bool) -> None:
        pieces = max(1, round(total / count / files.held_rows))
        large = size > WHOLE_BYTES
        asked.update(GET=count + opened * (2 + pieces if large else 2), HEAD=count + (opened if large else 0))
        asked.update(PUT=count)  # the record
        if write:  # and the file, whose size and footer are looked at
            asked.update(PUT=count, HEAD=2 * count, GET=count)

    while files.groups > files.fan_in:
        level = next_level(files, total, SURVEY)
        tasks(level.count, files.groups * level.ranges, write=True)
        files, size = level, total * BYTES_A_KEY / level.count
    ranges = max(1, -(-total // KEYS_A_TASK))
    overlaps = ranges + files.ranges - math.gcd(ranges, files.ranges)
    tasks(ranges, files.groups * overlaps, write=False)
    while ranges > MOST_FILES:  # of places there are records, and no files
        asked.update(GET=ranges + -(-ranges // FAN_IN), HEAD=-(-ranges // FAN_IN), PUT=-(-ranges // FAN_IN))
        ranges = -(-ranges // FAN_IN)
    asked.update(GET=shards * ranges)
    return asked


def counted_and_computed(folder: Path, shards: int, keys: int) -> tuple[Counter[str], Counter[str]]:
    """Requests of the exchange of so many keys a shard, none of them repeated, and what is computed of them."""
    store = CountingStore(folder / f"{shards}-{keys}.sqlite")
    version = Destination(store).claim(plan_key({"shards": shards, "keys": keys}, []), {})
    hashes, executor = key_hashes(version, shards), InProcess(2)
    run_step(version, NumberedShards(shards), ManyKeys(hashes, keys), executor, step=SURVEY)
    store.requests.clear()
    repeated = find_repeated_keys(version, shards, shards * keys, executor, Policy(), no_progress)
    for shard in range(shards):
        repeated.places.read(shard, shard + 1)
    counted = Counter({kind: requests for (_, kind), requests in store.requests.items()})
    return counted, computed(shards, keys)


def agreement(pairs: list[tuple[int, int, Counter[str], Counter[str]]]) -> str:
    lines = [
        "| shards | keys a shard | counted: PUT | GET, HEAD | computed: PUT | GET, HEAD |",
        "|---|---|---|---|---|---|",
    ]
    for shards, keys, counted, expected in pairs:
        shown = " | ".join(f"{of['PUT']:,} | {of['GET'] + of['HEAD']:,}" for of in (counted, expected))
        lines.append(f"| {shards:,} | {keys:,} | {shown} |")
        for kind in ("PUT", "GET", "HEAD"):
            if abs(counted[kind] - expected[kind]) > 30 + expected[kind] / 5:
                raise SystemExit(f"{kind} of {shards} x {keys}: {counted[kind]} counted, {expected[kind]} computed")
    return "\n".join(lines)


def table_of(runs: list[Ran]) -> str:
    lines = [
        "| shards | PUT, LIST | GET, HEAD | bytes written | bytes read | USD a million shards | MiB of the process |",
        "|---|---|---|---|---|---|---|",
    ]
    for ran in runs:
        puts, gets = ran.a_shard("PUT") + ran.a_shard("LIST"), ran.a_shard("GET") + ran.a_shard("HEAD")
        sizes = ("", "") if ran.put_in else (f"{ran.written / ran.shards:,.0f}", f"{ran.read / ran.shards:,.0f}")
        lines.append(
            f"| {ran.shards:,} | {puts:.2f} | {gets:.2f} | {sizes[0]} | {sizes[1]} | "
            f"{ran.usd_a_million:.2f} | {ran.mib:,.0f} |"
        )
    return "\n".join(lines)


def phases_of(ran: Ran) -> str:
    lines = ["| phase | PUT | LIST | GET | HEAD |", "|---|---|---|---|---|"]
    for phase in ran.requests:
        found = ran.of_phase(phase)
        shown = " | ".join(f"{found.get(kind, 0):.3f}" for kind in ("PUT", "LIST", "GET", "HEAD"))
        lines.append(f"| {phase} | {shown} |")
    return "\n".join(lines)


def computed_table(sizes: list[tuple[int, int]]) -> str:
    lines = ["| shards | keys a shard | PUT | GET, HEAD | USD a million shards |", "|---|---|---|---|---|"]
    for shards, keys in sizes:
        asked = computed(shards, keys)
        a_shard = {kind: requests / shards for kind, requests in asked.items()}
        usd = 1e6 * sum(PRICES[kind] * requests for kind, requests in a_shard.items())
        gets = a_shard["GET"] + a_shard["HEAD"]
        lines.append(f"| {shards:,} | {keys:,} | {a_shard['PUT']:.2f} | {gets:.1f} | {usd:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs and agrees, not how much")
    parser.add_argument("--shards", nargs="*", type=int, help="1,000 to 1,000,000 by default")
    options = parser.parse_args()
    sizes = options.shards or (FEW if options.quick else SIZES)
    with tempfile.TemporaryDirectory(prefix="million-") as folder:
        runs = [run(n, Path(folder), left=LEFT if n > RUN_WHOLE else None) for n in sizes]
        larger = [(150, 100), (300, 2_000)] if options.quick else [(300, 100), (3_000, 1_000), (300, 50_000)]
        pairs = [(*size, *counted_and_computed(Path(folder), *size)) for size in larger]
        agree = agreement(pairs)
    last = runs[-1]
    of_put_in = f"; survey and main step of the {LEFT:,} shards that were run" if last.put_in else ""
    text = f"""Requests a shard of prepare with a key and a split by time, {KEYS} keys a shard; counted.
The bill is at the list prices of S3 Standard: PUT and LIST ${WRITES_USD * 1000} a thousand, GET and HEAD
${READS_USD * 1000}. The raw tables are made up: what reading them costs is not in it.

{table_of(runs)}

Of {last.shards:,} shards, by phase{of_put_in}:

{phases_of(last)}

Seconds, and the memory of the process, in which driver, two tasks at once and the imported libraries are:

| phase | seconds | MiB |
|---|---|---|
{chr(10).join(f"| {what} | {seconds:,.0f} | {mib:,.0f} |" for what, seconds, mib in last.steps)}

Finding repeated keys alone, requests of all shards: counted where it is run, and computed of the same sizes.

{agree}

The same a shard, where it is not run; computed:

{computed_table([(s, k) for k in (1_000, 524_288) for s in (1_000, 10_000, 100_000, 1_000_000)])}
"""
    document = {
        "runs": [
            {
                "shards": ran.shards,
                "put_in": ran.put_in,
                "requests_a_shard": {phase: ran.of_phase(phase) for phase in ran.requests},
                "bytes_written": ran.written,
                "bytes_read": ran.read,
                "usd_a_million_shards": ran.usd_a_million,
                "steps": ran.steps,
            }
            for ran in runs
        ],
        "computed_requests_of_repeated_keys": [
            {"shards": s, "keys_a_shard": k, **computed(s, k)} for s, k in ((1_000_000, 1_000), (1_000_000, 524_288))
        ],
    }
    write("million_shards", document, text, quick=options.quick or options.shards is not None)


if __name__ == "__main__":
    main()
