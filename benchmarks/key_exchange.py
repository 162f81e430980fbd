"""Which exchange finds repeated keys faster: the one through the store, or Ray Data's hash shuffle?

The same Parquet files of key hashes, a file a shard, of which one key in a hundred stands twice; the result is the
place of each later row, as Parquet. Ray Data repartitions by key with the strategy that it takes by itself
(shuffle_v2), so that all rows of a key are in one block, and compares them there with the same function. All on one Ray
with two workers that run already; places are compared before anything is timed. That the exchange writes each level
durably, and goes on where it was killed, is in its time; a shuffle through the object store begins anew.

    python -m benchmarks.key_exchange [--quick] [--rounds N]
"""

from __future__ import annotations

import argparse
import itertools
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import as_json, interleaved, table, write
from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Destination, plan_key
from rayforest.engine.executors import Executor, InProcess, RayExecutor
from rayforest.engine.policy import Policy
from rayforest.engine.progress import Progress
from rayforest.engine.run import run_step
from rayforest.engine.shards import NumberedShards, Shard
from rayforest.engine.stores.local import LocalStore
from rayforest.preparing.repeated_keys import PLACES, find_repeated_keys
from rayforest.preparing.survey import HASHES, SURVEY, key_hashes, later_rows

WORKERS = 2
BLOCKS = ((None, 16), (16, 4), (16, 16), (16, 64), (64, 64))
"""Of reading (None: as Ray Data likes) and of the repartition; the fastest pair is taken."""


class Hashes:
    """The shards' key hashes: a step of a version, which each run of ours copies, and its files for the peer."""

    def __init__(self, folder: Path, shards: int, keys: int) -> None:
        self.folder, self.shards, self.keys = folder, shards, keys
        self.version = Destination(LocalStore(folder)).claim(plan_key({"shards": shards, "keys": keys}, []), {})
        hashes = key_hashes(self.version, shards)

        def survey(shard: Shard, attempt: Attempt) -> None:
            attempt.count_in(keys)
            hashes.write(attempt, keys_of(shard.index, keys))

        survey.schema = HASHES  # type: ignore[attr-defined]
        run_step(self.version, NumberedShards(shards), survey, InProcess(WORKERS), step=SURVEY)  # type: ignore[arg-type]

    @property
    def files(self) -> str:
        """A folder of Parquet files."""
        return str(self.folder / self.version.base / SURVEY / "data")


def keys_of(shard: int, keys: int) -> pa.Table:
    """Random keys, of which one in a hundred is of the shard before."""
    halves = np.random.default_rng(shard).integers(0, 2**64, (2, keys), np.uint64)
    if shard:
        before = np.random.default_rng(shard - 1).integers(0, 2**64, (2, keys), np.uint64)
        halves[:, 50::100] = before[:, ::100][:, : halves[:, 50::100].shape[1]]
    columns = [*halves, np.full(keys, shard, np.int32), np.arange(keys)]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=HASHES)


def no_progress(progress: Progress) -> None:
    """Tell nothing."""


def exchanged(hashes: Hashes, executor: Executor) -> pa.Table:
    """Places by the exchange; what it wrote before is deleted first."""
    version = hashes.version
    for step in (hashes.folder / version.base).iterdir():
        if step.name.startswith((f"{SURVEY}-", "duplicates")):
            shutil.rmtree(step)
    policy, keys = Policy(), hashes.shards * hashes.keys
    return find_repeated_keys(version, hashes.shards, keys, executor, policy, no_progress).places.read(0, hashes.shards)


def shuffled(hashes: Hashes, out: Path, read_blocks: int | None, blocks: int) -> pa.Table:
    """Places by Ray Data."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if context.shuffle_strategy != ray.data.context.ShuffleStrategy.SHUFFLE_V2:
        raise SystemExit(f"Ray Data would shuffle by {context.shuffle_strategy}")
    rows = ray.data.read_parquet(hashes.files, override_num_blocks=read_blocks)
    rows = rows.repartition(blocks, keys=["hash_a"])
    rows.map_batches(later_places, batch_size=None, batch_format="pyarrow").write_parquet(str(out), compression="zstd")
    return pq.read_table(out, schema=PLACES.remove_metadata())


def later_places(rows: pa.Table) -> pa.Table:
    """Of all rows of some keys: the places of the later ones."""
    rows = rows.sort_by([("hash_a", "ascending"), ("shard", "ascending"), ("position", "ascending")])
    return rows.select(PLACES.names).filter(pa.array(later_rows(rows)))


def in_order(places: pa.Table) -> pa.Table:
    by_place = [("shard", "ascending"), ("position", "ascending")]
    return places.select(PLACES.names).replace_schema_metadata().sort_by(by_place).combine_chunks()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs and agrees, not how fast")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    shards, keys, rounds = (140, 200, 1) if options.quick else (256, 40_000, options.rounds)
    with tempfile.TemporaryDirectory() as name:
        text, document = measured(Path(name), shards, keys, rounds)
    write("key_exchange", document, text, quick=options.quick)


def measured(folder: Path, shards: int, keys: int, rounds: int) -> tuple[str, dict[str, object]]:
    hashes, numbers = Hashes(folder / "hashes", shards, keys), itertools.count()
    ray = RayExecutor(workers=WORKERS, quiet=True)

    def fresh() -> Path:
        return folder / f"out-{next(numbers)}"

    def peer(blocks: tuple[int | None, int]) -> Callable[[], pa.Table]:
        return lambda: shuffled(hashes, fresh(), *blocks)

    here = in_order(exchanged(hashes, InProcess(WORKERS)))
    if not here.num_rows:
        raise SystemExit("no key is repeated")
    others = {
        "exchange on Ray": exchanged(hashes, ray),
        **{f"Ray Data, blocks {pair}": peer(pair)() for pair in BLOCKS},
    }
    for contender, places in others.items():
        if not in_order(places).equals(here):
            raise SystemExit(f"{contender} found other places")
    tried = interleaved({str(pair): ("", peer(pair)) for pair in BLOCKS}, 1, warm=True)
    best = min(range(len(BLOCKS)), key=lambda number: tried[number].median)
    durable = "every level durable"
    repartition = (
        f"repartition by key, shuffle_v2; blocks of reading and repartition {BLOCKS[best]}, the best of {BLOCKS}"
    )
    timings = interleaved(
        {
            "the exchange, on Ray": (f"two warm workers; {durable}", lambda: exchanged(hashes, ray)),
            "Ray Data": (repartition, peer(BLOCKS[best])),
            "the exchange, in-process": (f"two threads; {durable}", lambda: exchanged(hashes, InProcess(WORKERS))),
        },
        rounds,
        warm=True,
    )
    ray.close()
    rows = shards * keys
    text = (
        f"Places of {here.num_rows:,} repeated keys among {rows:,} in {shards} files, Parquet to Parquet:\n\n"
        f"{table(timings, rows)}\n"
    )
    return text, {"shards": shards, "keys_a_shard": keys, "contenders": as_json(timings)}


if __name__ == "__main__":
    main()
