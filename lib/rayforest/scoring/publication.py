"""Scored results as one commit of a Delta table, which a repetition adds nothing to.

The commit has a `txn` action whose application is the plan key. A table that has it holds the result, so whoever comes
again, such as after a crash between our manifest and the commit, adds nothing. Two who come at once are told apart by
the log, of which each version is created once: the second one looks again.

Data files stand below the table's folder, under the plan key. They are hard links where both lie on one file system,
copies that the store makes where both lie in one bucket of S3, and copies of ours otherwise. The protocol allows paths
outside of the folder, but many readers do not find such files (Polars and deltalake's own pyarrow dataset among them),
and whoever cleaned up the one would take files from the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rayforest.engine.executors import Executor, InProcess
from rayforest.engine.manifest import Manifest
from rayforest.engine.stores.local import LocalStore
from rayforest.engine.stores.object_uri import is_object_uri
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.requests import in_parallel
from rayforest.engine.stores.store import Store
from rayforest.errors import ConfigError, FormatError
from rayforest.project.sections import Project, Stage
from rayforest.scoring.delta_columns import delta_schema, refuse_unfit
from rayforest.tables.snapshots.delta import delta_errors, delta_uri, is_delta_uri, open_delta, require_deltalake
from rayforest.tables.snapshots.store_access import delta_options

if TYPE_CHECKING:
    from deltalake import DeltaTable, Schema

_FEW_BYTES = 64 << 20
"""Copied up to here takes less time than to start a worker process."""
_FILES_A_TASK = 16
_READ_BYTES = 1 << 20
_COPY_BYTES = 5 << 30
"""That S3 copies in one request, at most."""
_TRIES = 100
"""Of a commit that others overtake; each time one of them has got through."""
_STAGES: tuple[Stage, ...] = ("prepared", "tuned", "bundle", "scored")


@dataclass(frozen=True)
class _File:
    """A data file of the result, whose path is the same in the table."""

    path: str
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Publication:
    """What score.publish asks for."""

    table: str
    """Absolute path or URI of the Delta table."""
    project: str
    """Name of the project, for the history of the table."""

    @classmethod
    def of(cls, project: Project) -> Publication | None:
        """None where results are not published.

        Raises:
            ConfigError: the table is where a stage of the project writes.
        """
        if project.score.publish is None:
            return None
        table = project.locate(project.score.publish.delta)
        for stage in _STAGES:
            place = project.stage(stage)
            inside, outside = (f"{os.path.normpath(folder)}/" for folder in (table, place))
            if inside.startswith(outside) or outside.startswith(inside):
                raise ConfigError(
                    f"score.publish names {table}, where the project itself writes",
                    expected="a folder of its own: a vacuum of a Delta table deletes what its log does not name",
                    found=place,
                    next_step="choose a folder outside of it",
                )
        return cls(table, project.project.name)

    def refuse(self, schema: pa.Schema) -> None:
        """Refuse before any work what could not be published after it.

        Raises:
            InputError: Delta has no type for a scored column, or the table that is there does not take these rows.
            ConfigError: deltalake is not installed.
        """
        require_deltalake(self.table)
        opened, columns = self._open(), delta_schema(schema)
        if opened is not None:
            refuse_unfit(self.table, opened, columns)

    def commit(self, manifest: Manifest, executor: Executor) -> dict[str, Any]:
        """Bring a published version into the table, unless it is there.

        Args:
            manifest: of the version.
            executor: copies the files where they are many.

        Returns:
            The table, its version with the result, and whether this call added it.

        Raises:
            InputError: as `refuse`; or the table cannot be written.
        """
        require_deltalake(self.table)
        columns, app = delta_schema(manifest.schema), f"rayforest:{manifest.key}"
        added = False
        opened = self._open()
        if opened is None or opened.transaction_version(app) is None:
            if opened is not None:
                refuse_unfit(self.table, opened, columns)
            files = list(_files(manifest))
            _bring(manifest.store, open_store(self.table), manifest.key, files, executor)
            added = self._add(files, columns, app)
        opened = open_delta(self.table)
        return {"delta": self.table, "version": opened.version(), "added": added}

    def _open(self) -> DeltaTable | None:
        """None where there is no table yet."""
        return open_delta(self.table) if is_delta_uri(self.table) else None

    def _add(self, files: list[_File], columns: Schema, app: str) -> bool:
        """One commit with all files; False where another one was first."""
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import CommitFailedError, DeltaError
        from deltalake.transaction import AddAction, create_table_with_add_actions

        now = int(time.time() * 1000)
        adds = [
            AddAction(f.path, f.size, {}, now, data_change=True, stats=json.dumps({"numRecords": f.rows}))
            for f in files
        ]
        # Without retries of its own: a table's creation that was overtaken would be committed once more on top.
        told = CommitProperties(
            {"rayforest.project": self.project}, max_commit_retries=0, app_transactions=[Transaction(app, 1)]
        )
        for attempt in range(_TRIES):
            opened = self._open()
            if opened is not None and opened.transaction_version(app) is not None:
                return False
            with delta_errors(f"the Delta table {self.table}", "written"):
                try:
                    if opened is None:
                        create_table_with_add_actions(
                            delta_uri(self.table),
                            columns,
                            adds,
                            storage_options=delta_options(self.table),
                            commit_properties=told,
                        )
                        return True
                    refuse_unfit(self.table, opened, columns)
                    opened.create_write_transaction([*adds], "append", columns, commit_properties=told)
                    return True
                except DeltaError as error:
                    # by another commit, perhaps of the same result, or by who created the table: look again
                    overtaken = isinstance(error, CommitFailedError) or (opened is None and self._open() is not None)
                    if not overtaken or attempt == _TRIES - 1:
                        raise
            time.sleep(0.01 * attempt)
        return False


def _files(manifest: Manifest) -> Iterator[_File]:
    for row in manifest.rows(["path", "rows_out", "bytes", "sha256"]):
        if row["path"] is not None:
            yield _File(row["path"], row["rows_out"], row["bytes"], row["sha256"])


def _bring(source: Store, target: Store, key: str, files: list[_File], executor: Executor) -> None:
    """The files that are not there yet into the table's folder, by the executor where there is much to move."""
    # whole and durable, or not there: see Store.open_write
    there = {entry.path: entry.size for entry in target.list(key)}
    left = [file for file in files if there.get(file.path) != file.size]
    if left and _shared(source, target, left[0]):  # so are the others, on the spot
        nearest: Executor = InProcess()
        left = left[1:]
    else:
        nearest = executor if sum(file.size for file in left) > _FEW_BYTES else InProcess()
    batches = [left[at : at + _FILES_A_TASK] for at in range(0, len(left), _FILES_A_TASK)]

    def bring(batch: list[_File]) -> None:
        shared = in_parallel(target, lambda file: _shared(source, target, file), batch)
        for file, done in zip(batch, shared, strict=True):
            if not done:
                _copy(source, target, file)

    for outcome in nearest.stream(bring, batches):
        outcome.result()


def _shared(source: Store, target: Store, file: _File) -> bool:
    """Give the file its place in the table without reading it, where both lie on one file system or in one bucket."""
    if isinstance(source, LocalStore) and isinstance(target, LocalStore):
        return target.link(source.locate(file.path), file.path)
    if is_object_uri(source.uri) and is_object_uri(target.uri) and file.size <= _COPY_BYTES:
        from rayforest.engine.stores.object_store import ObjectStore

        return isinstance(source, ObjectStore) and isinstance(target, ObjectStore) and target.copy(source, file.path)
    return False


def _copy(source: Store, target: Store, file: _File) -> None:
    digest = hashlib.sha256()
    with source.open_read(file.path) as stream, target.open_write(file.path) as copy:
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
            copy.write(chunk)
        if digest.hexdigest() != file.sha256:
            raise FormatError(
                f"{source.locate(file.path)} is damaged or was changed",
                expected=f"SHA-256 {file.sha256[:16]}...",
                found=f"{digest.hexdigest()[:16]}...",
                next_step="restore it, or score again into another destination",
            )
