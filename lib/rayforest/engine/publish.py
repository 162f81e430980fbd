"""From finished shards to a result that readers see, and what is swept up afterwards."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayforest.engine.attempt import HashingSink, new_token
from rayforest.engine.commit import Destination, Version
from rayforest.engine.differences import JSON
from rayforest.engine.document import read_schema
from rayforest.engine.manifest import MANIFEST_PART_SCHEMA, Manifest, manifest_path
from rayforest.engine.plan import Plan, in_order
from rayforest.engine.record import KEPT_REASONS, Record, add_reasons, read_record, schema_path, step_folder
from rayforest.engine.shards import Shard
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.requests import in_parallel, settle
from rayforest.engine.stores.store import Store
from rayforest.errors import InputError, RayforestError, UnfinishedError
from rayforest.formats import MANIFEST, MANIFEST_PART

_BATCH_ROWS = 16_384
_OWN_NAMES = ("plan.parquet", "manifest", "schema.arrow", "records", "data", "quarantine", "failed", "extra-")


def publish(
    version: Version,
    plan: Plan | None,
    *,
    extra: Mapping[str, bytes] | None = None,
    summary: Mapping[str, JSON] | None = None,
) -> Manifest:
    """Check that every shard is finished and accounted for, create the manifest, and make the version current.

    Where another driver has published the version, its manifest stands and mine is dropped.

    Args:
        version: from `Destination.claim`.
        plan: whose shards make up the result; None where the result is the extra files alone.
        extra: small files by name; they end up in the version's folder, with their hashes in the manifest.
        summary: kept in the manifest.

    Raises:
        UnfinishedError: a shard has no record.
        RayforestError: rows do not add up, or a file is not there as its record says.
    """
    store, base, extra = version.store, version.base, extra or {}
    if taken := [name for name in extra if "/" in name or name.startswith(_OWN_NAMES)]:
        raise ValueError(f"names of extra files that the version has for itself: {taken}")
    if version.manifest() is None:
        token = new_token()
        part = f"manifest-{token}.parquet" if plan is not None else None
        totals, reasons = _Totals(), Counter[str]()
        checksum = _write_manifest_part(version, plan, f"{base}/{part}", totals, reasons) if plan is not None else ""
        for name, data in extra.items():
            settle(store, version.extra_path(_digest(extra), name), data)
        mine = MANIFEST.write(
            {
                "key": version.key,
                "totals": totals.as_dict(),
                "reasons": dict(reasons.most_common(KEPT_REASONS)),
                "part": part and {"path": part, "sha256": checksum},
                "schema": _schema(version) if plan is not None else {"fields": {}, "arrow": ""},
                "extra_digest": _digest(extra),
                "extra": {
                    name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
                    for name, data in extra.items()
                },
                "summary": summary or {},
            },
            indent=1,
        )
        standing = settle(store, manifest_path(base), mine)
        if standing != mine and part is not None:
            store.delete([f"{base}/{part}"])  # nobody can come to name it now
    version.make_current()
    manifest = version.manifest()
    if manifest is None:
        raise FileNotFoundError(store.locate(manifest_path(base)))
    return manifest


def read_manifest(destination: Store | str | Path, *, next_step: str = "check the path") -> Manifest:
    """The manifest of the current version: the old result or the new one, never half of one.

    Args:
        destination: where a run publishes.
        next_step: what a user should do where no run has begun.

    Raises:
        InputError: nothing was published there.
    """
    store = open_store(destination) if isinstance(destination, str | Path) else destination
    version = Destination(store).current()
    manifest = version.manifest() if version else None
    if manifest is None:
        claimed = Destination(store).latest_claim() is not None
        raise InputError(
            f"there is no published result at {store.uri}",
            expected="a destination that a run has finished",
            found="a run that did not finish" if claimed else "no run at all",
            next_step="run the same command again to finish it" if claimed else next_step,
        )
    return manifest


def clean(version: Version, grace_s: float = 0.0) -> int:
    """Delete what no record of a published version names: files of attempts that were killed, overdue or too late.

    Safe at any time after publishing, because every shard has its record by then, so no file can come to be named
    any more. An attempt that is still writing fails, is tried again, and finds the record; a grace period spares it
    that, and leaves the files of attempts that were killed a moment ago to the next clean.

    Args:
        version: a published one; nothing is done for another.
        grace_s: seconds since a file was last written, on the store's clock.

    Returns:
        How many files were deleted.
    """
    manifest = version.manifest()
    if manifest is None:
        return 0
    store, base = version.store, version.base
    part = manifest.document["part"]
    winners = _WinningAttempts(store, base, manifest)
    attempt_file = re.compile(
        rf"{base}/(?:([a-z0-9_-]+)/)?(?:data|quarantine|records)/\d+/(\d+)-([0-9a-f]+)\.(?:parquet|sidecar)"
    )
    before = time.time() - grace_s

    def unnamed() -> Iterator[str]:
        for entry in store.list(base):
            if entry.modified > before:
                continue
            name = entry.path.removeprefix(f"{base}/")
            if match := attempt_file.fullmatch(entry.path):
                winner = winners.of(match[1] or "", int(match[2]))
                if winner is not None and winner != match[3]:
                    yield entry.path
            elif re.fullmatch(r"manifest-[0-9a-f]+\.parquet", name):
                if part is None or name != part["path"]:
                    yield entry.path
            elif name.endswith(".tmp") or re.match(r"extra-[0-9a-f]+/", name):
                yield entry.path

    deleted = 0
    paths = unnamed()
    while batch := list(islice(paths, 1000)):
        store.delete(batch)
        deleted += len(batch)
    return deleted


class _Totals:
    def __init__(self) -> None:
        self.shards = self.rows_in = self.rows_out = self.rows_quarantined = self.bytes = 0

    def add(self, record: Record) -> None:
        self.shards += 1
        self.rows_in += record.rows_in
        self.rows_out += record.rows_out
        self.rows_quarantined += record.rows_quarantined
        self.bytes += record.bytes

    def as_dict(self) -> dict[str, int]:
        return dict(vars(self))


class _WinningAttempts:
    """Token of the attempt that won each shard; eight bytes a shard for the main step."""

    def __init__(self, store: Store, base: str, manifest: Manifest) -> None:
        self._store, self._base = store, base
        self._main = array("Q")
        for row in manifest.rows(["path", "quarantine", "sidecar"]):
            named = row["path"] or row["quarantine"] or row["sidecar"]
            token = re.search(r"-([0-9a-f]{16})\.", named) if named else None
            self._main.append(int(token[1], 16) if token else 0)
        self._other = lru_cache(maxsize=4096)(self._read)

    def of(self, step: str, shard: int) -> str | None:
        """None where the shard is not finished, so that its files may still come to be named."""
        if step:
            return self._other(step, shard)
        return f"{self._main[shard]:016x}" if shard < len(self._main) else None

    def _read(self, step: str, shard: int) -> str | None:
        record = read_record(self._store, step_folder(self._base, step), shard)
        return record.attempt if record else None


def _write_manifest_part(version: Version, plan: Plan, path: str, totals: _Totals, reasons: Counter[str]) -> str:
    """The manifest's Parquet part; returns its SHA-256."""
    with version.store.open_write(path) as file:
        sink = HashingSink(file)
        schema = MANIFEST_PART_SCHEMA.with_metadata(MANIFEST_PART.metadata)
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            rows = _rows(version, plan, totals, reasons)
            while chunk := list(islice(rows, _BATCH_ROWS)):
                writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=MANIFEST_PART_SCHEMA))
        if (totals.shards, totals.rows_in) != (plan.shards, plan.rows):
            raise RayforestError(
                f"{version.store.locate(version.base)} does not hold what was planned",
                expected=f"{plan.shards:,} shards, {plan.rows:,} rows",
                found=f"{totals.shards:,} shards, {totals.rows_in:,} rows",
                next_step="run again into another destination, and please report this",
            )
    return sink.digest.hexdigest()


def _rows(version: Version, plan: Plan, totals: _Totals, reasons: Counter[str]) -> Iterator[dict[str, Any]]:
    def checked(shard: Shard) -> Record:
        return _checked_record(version, shard)

    for record in in_parallel(version.store, checked, _in_order(plan)):
        totals.add(record)
        add_reasons(reasons, record.reasons)
        yield {
            "shard": record.shard,
            "path": record.path,
            "rows_in": record.rows_in,
            "rows_out": record.rows_out,
            "rows_quarantined": record.rows_quarantined,
            "bytes": record.bytes,
            "sha256": record.checksum,
            "quarantine": record.quarantine,
            "sidecar": record.sidecar,
        }


def _in_order(plan: Plan) -> Iterable[Shard]:
    try:
        yield from in_order(plan)
    except ValueError as error:
        raise RayforestError(
            f"the plan {plan.store.locate(plan.path)} does not cover its inputs",
            found=str(error),
            next_step="run again into another destination, and please report this",
        ) from error


def _checked_record(version: Version, shard: Shard) -> Record:
    """The shard's record, read by its key, with its rows added up and its files looked at."""
    store = version.store
    record = read_record(store, version.base, shard.index)
    if record is None:
        raise UnfinishedError(
            f"shard {shard.index} is not finished; nothing was published",
            next_step="run the same command again: finished shards are kept",
        )
    rows = record.rows_out + record.rows_quarantined
    if record.shard != shard.index or record.rows_in != shard.rows or rows != shard.rows:
        raise RayforestError(
            f"shard {shard.index} does not account for every row",
            expected=f"{shard.rows:,} planned rows = rows out + rows quarantined",
            found=f"{record.rows_in:,} in, {record.rows_out:,} out, {record.rows_quarantined:,} quarantined",
            next_step="run again into another destination, and please report this",
        )
    for path in record.files:
        size = store.size(path)
        if size is None or (path == record.path and size != record.bytes):
            raise RayforestError(
                f"{store.locate(path)} is not there as its record says",
                expected=f"{record.bytes:,} bytes" if path == record.path else "a file",
                found="nothing" if size is None else f"{size:,} bytes",
                next_step="something else deleted or changed it: run again into another destination",
            )
    return record


def _schema(version: Version) -> dict[str, Any]:
    path = schema_path(version.base)
    schema = read_schema(version.store.get(path), version.store.locate(path))
    return {
        "fields": {field.name: str(field.type) for field in schema},
        "arrow": base64.b64encode(schema.serialize().to_pybytes()).decode(),
    }


def _digest(extra: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(extra.items()):
        digest.update(f"{name}\n{len(data)}\n".encode() + data)
    return digest.hexdigest()[:16]
