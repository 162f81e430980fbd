"""Every row exactly once, in hundreds of small worlds where everything goes wrong; see simulation.py. `make chaos`
plays 20,000.

A failure names its seed: `simulation.run_seed(seed)` plays it again, call by call (`world.store.trace`).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from simulation import Killed, SimulatedStore, Violation, run_seed

from rayforest.engine import attempt, commit, publish
from rayforest.engine.record import Record
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.requests import prove_create_if_absent
from rayforest.errors import ConfigError

SEEDS_A_TEST = 100


@pytest.mark.parametrize("start", range(0, 300, SEEDS_A_TEST))
def test_every_row_comes_out_once_whatever_dies_and_whenever(start: int) -> None:
    for seed in range(start, start + SEEDS_A_TEST):
        run_seed(seed)


def test_the_same_seed_plays_the_same_world() -> None:
    first, again = run_seed(17), run_seed(17)
    assert first.store.trace == again.store.trace
    assert {path: data for path, (data, _) in first.store.files.items()} == {
        path: data for path, (data, _) in again.store.files.items()
    }


def test_the_worlds_hold_every_kind_of_trouble() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        world = run_seed(seed)
        text = "\n".join(world.store.trace)
        kinds = ("dies before", "fails at", "is cut off", "delayed", "acknowledgement lost", "create claims/000002")
        seen.update(kind for kind in kinds if kind in text)
        seen["read while it ran"] += world.readings > 0
        records = [path for path in world.store.files if "/records/" in path]
        attempts = {line.rsplit("-", 1)[1][:16] for line in world.store.trace if " write " in line and "/data/" in line}
        seen["an attempt lost the race for its record"] += len(attempts) > len(records)
    assert len(seen) == 8, seen
    assert all(seen.values()), seen


# The protocol, broken on purpose. Each break must be found, or the simulation proves nothing.


def seeds_until_found(most: int = 400) -> int:
    """How many seeds the break survives."""
    for seed in range(most):
        try:
            run_seed(seed)
        except Violation:
            return seed + 1
    raise AssertionError(f"not found in {most} seeds")


def test_a_store_that_overwrites_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrite(self: SimulatedStore, path: str, data: bytes) -> bool:
        self._put(path, data)
        return True

    monkeypatch.setattr(SimulatedStore, "_create", overwrite)
    monkeypatch.setattr(commit, "prove_create_if_absent", lambda store: None)  # which would refuse the store
    assert seeds_until_found()


def test_publishing_by_listing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_listing(version: Any, plan: Any, totals: Any, reasons: Any) -> Iterator[dict[str, Any]]:
        import pyarrow.parquet as pq

        for entry in sorted(version.store.list(f"{version.base}/data"), key=lambda entry: entry.path):
            rows = pq.read_metadata(version.store.open_read(entry.path)).num_rows
            record = Record(int(entry.path.rsplit("/", 1)[1][:6]), "", rows, rows, 0, entry.path, entry.size)
            totals.add(record)
            names = ("shard", "path", "rows_in", "rows_out", "rows_quarantined", "bytes", "quarantine", "sidecar")
            yield {name: getattr(record, name) for name in names} | {"sha256": ""}
        totals.shards, totals.rows_in = plan.shards, plan.rows  # or the sum of the rows would be found wrong at once

    monkeypatch.setattr(publish, "_rows", by_listing)
    assert seeds_until_found()


def test_reusing_a_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "new_token", lambda: "0" * 16)
    assert seeds_until_found()


def test_deleting_files_whose_record_may_still_come_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    commit_as_it_is = attempt.Attempt.commit

    def tidy(self: attempt.Attempt) -> Record:
        try:
            return commit_as_it_is(self)
        except OSError:
            with contextlib.suppress(Killed, OSError):
                self._store.delete([self._data.path])
            raise

    monkeypatch.setattr(attempt.Attempt, "commit", tidy)
    assert seeds_until_found(2000)


def test_a_store_that_overwrites_is_refused_before_the_first_claim() -> None:
    class Overwriting(MemoryStore):
        def create(self, path: str, data: bytes) -> bool:
            self.delete([path])
            return super().create(path, data)

    with pytest.raises(ConfigError, match="only if it is absent"):
        prove_create_if_absent(Overwriting("overwriting"))
