"""Which library decodes Parquet: Arrow, which decides what a file holds, or Polars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from rayforest.tables import polars_decoding


@contextmanager
def by_arrow() -> Iterator[None]:
    """Row groups of single files are decoded by Arrow alone."""
    with patch.object(polars_decoding.GroupReader, "read", return_value=None):
        yield


@contextmanager
def groups_by_polars() -> Iterator[list[bool]]:
    """Of each row group that is read, whether Polars decoded it."""
    seen: list[bool] = []
    read = polars_decoding.GroupReader.read

    def noted(self: polars_decoding.GroupReader, *args: object) -> object:
        found = read(self, *args)  # type: ignore[arg-type]  # as it was called
        seen.append(found is not None)
        return found

    with patch.object(polars_decoding.GroupReader, "read", noted):
        yield seen
