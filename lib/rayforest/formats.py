"""Every kind of file that rayforest writes and reads again: a name and a version each, checked on reading.

A JSON document begins with its envelope, before its own keys:

    {"kind": "rayforest.profile", "version": 1, "parts": ..., "columns": ...}

Parquet files and Arrow schemas hold the same two as texts in their metadata. Files of releases before the envelope have
their version as `format` or `format_version`; without either they are of version 1.

To change a format:

1. Raise its version below where a reader of the version before would misread or refuse the new file, and say beside it
   what was different. A key that older readers pass over needs no new version.
2. Keep reading every older version: `Document.version` says which one a file has.
3. Add golden files that the changed code wrote (tests/golden/README.md). Those that are there are never changed.
4. Say so in docs/formats.md and CHANGELOG.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rayforest.errors import FormatError

_T = TypeVar("_T")
_EARLIER_NAMES = ("format_version", "format")
"""Of the version, in releases before the envelope."""


class Document(dict[str, Any]):
    """What a file holds under its own keys, without the envelope."""

    def __init__(self, keys: Mapping[str, Any], version: int) -> None:
        super().__init__(keys)
        self.version = version
        """In which the file was written; never newer than its format's."""

    def having(self, keys: Iterable[str]) -> Document:
        """The document itself. KeyError if it lacks one of the keys."""
        for key in keys:
            self[key]
        return self


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file."""

    kind: str
    version: int
    """The newest one, which is written."""
    if_damaged: str = "restore it from a copy, or run again into another destination"
    """What a user should do then."""

    @property
    def metadata(self) -> dict[str, str]:
        """The envelope in the metadata of a Parquet file or an Arrow schema."""
        return {"kind": self.kind, "version": str(self.version)}

    def document(self, keys: Mapping[str, Any], version: int | None = None) -> dict[str, Any]:
        """The envelope and a document's own keys, plain values all.

        Args:
            keys: by name; none has the name of one of the envelope's.
            version: an older one, where the document is still of that one; the newest by default.
        """
        if taken := {"kind", "version"} & keys.keys():
            raise ValueError(f"keys of the envelope: {taken}")
        return {"kind": self.kind, "version": version or self.version, **keys}

    def write(self, keys: Mapping[str, Any], *, version: int | None = None, indent: int | None = None) -> bytes:
        """The same as a JSON file, on one line unless it is indented: equal keys in their order give equal bytes."""
        separators = (",", ":") if indent is None else None
        text = json.dumps(self.document(keys, version), ensure_ascii=False, indent=indent, separators=separators)
        return text.encode(errors="surrogatepass")  # of paths that are no UTF-8; json.loads takes it, too

    def read(self, data: bytes, where: str, parse: Callable[[Document], _T]) -> _T:
        """Check the envelope of a JSON file, and make of the file what it stands for.

        Args:
            data: the file.
            where: its path or URI, for errors.
            parse: makes the value. What it raises over a key that is missing or does not fit is damage.

        Raises:
            FormatError: the file is damaged, of another kind, or newer than this rayforest.
        """
        try:
            found = json.loads(data)
        except ValueError as error:  # also of bytes that are no UTF-8
            raise self.damaged(where, "no JSON" if data else "no bytes") from error
        return self.take(found, where, parse)

    def take(self, found: object, where: str, parse: Callable[[Document], _T]) -> _T:
        """The same of a JSON value that is parsed already, such as a document inside another one."""
        if not isinstance(found, dict):
            raise self.damaged(where, "no JSON object")
        keys = dict(found)
        if isinstance(keys.get("kind"), str):
            kind, version = keys.pop("kind"), keys.pop("version", None)
        else:  # of a release before the envelope
            name = next((name for name in _EARLIER_NAMES if name in keys), None)
            kind, version = self.kind, 1 if name is None else keys.pop(name)
        document = Document(keys, self.checked(kind, version, where))
        try:
            return parse(document)
        except KeyError as error:
            raise self.damaged(where, f"no key {error}") from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise self.damaged(where, "a key whose value does not fit") from error

    def checked(self, kind: str, version: object, where: str) -> int:
        """The version of an envelope that this rayforest reads.

        Raises:
            FormatError: it is of another kind, newer, or no version.
        """
        if kind != self.kind:
            raise FormatError(
                f"{where} is a file of another kind", expected=self.kind, found=kind, next_step=self.if_damaged
            )
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise self.damaged(where, "no version")
        if version > self.version:
            raise FormatError(
                f"{where} has a newer format than this rayforest reads",
                expected=f"{self.kind} of version {self.version} or older",
                found=f"version {version}",
                next_step="upgrade rayforest",
            )
        return version

    def damaged(self, where: str, found: str) -> FormatError:
        """The error of a file that does not hold what was written."""
        return FormatError(
            f"{where} is damaged",
            expected=f"{self.kind} as rayforest wrote it",
            found=found,
            next_step=self.if_damaged,
        )


# The engine's: how a result comes to be.
CLAIM = Format("rayforest.claim", 1)
CURRENT = Format("rayforest.current", 1)
PLAN = Format("rayforest.plan", 2)
"""1: inputs speak for themselves. 2: with `entry`, what else there is to know of them; written only where there is."""
STEP_SCHEMA = Format("rayforest.schema", 1)
RECORD = Format("rayforest.record", 2)
"""1: without `work`, who did the shard and when. Plan keys are those of version 1."""
FAILED_ATTEMPT = Format("rayforest.failed-attempt", 1)
MANIFEST = Format("rayforest.manifest", 1)
MANIFEST_PART = Format("rayforest.manifest-part", 1)

# What was found in raw tables, and fitted to them.
TABLE = Format("rayforest.table", 1)
"""Kinds and types of a source's columns. Raised, too, when others would be found in the same files."""
RECIPE = Format("rayforest.recipe", 2)
"""1: a boolean target, and one with a positive label, was 1 or 0. 2: the target is the user's own label."""
CONTRACT = Format("rayforest.contract", 1)
PROFILE = Format("rayforest.profile", 1)
SPLIT = Format("rayforest.split", 1)
CATEGORIES = Format("rayforest.categories", 2)
"""1: features were the keys of the document itself. 2: they stand under `categories`."""
TIMES = Format("rayforest.times", 1)
KEY_HASHES = Format("rayforest.key-hashes", 2)
"""1: in buckets, all rows of a shard, which had no column. 2: sorted by `hash_a`, the first row of each key.

Those of version 1 belong to plans of their own, which no run of today resumes."""
REPEATED_KEYS = Format("rayforest.repeated-keys", 1)
DATA = Format("rayforest.data", 1)
"""Prepared shards, as `tune` reads them. Of version 1 there is no envelope: rows of a user, and nothing else."""

# Models, bundles and scores.
TRIAL = Format("rayforest.trial", 2)
"""1: without `work`, who trained it and when."""
TUNED_METRICS = Format("rayforest.tuned-metrics", 1)
FEATURES = Format("rayforest.features", 2)
"""The recipe with its fitted categories; 1 and 2 as there."""
BUNDLE = Format("rayforest.bundle", 2)
"""All files of a bundle together: its version is `bundle_format` in the summary of the bundle's manifest.

1: the graphs of a classifier had no `probability`; `prediction` was the probability. 2: `prediction` is the label."""
TRAINING = Format("rayforest.training", 1)
PARITY = Format("rayforest.parity", 1)
TOTALS = Format("rayforest.totals", 1)
SCORED_METRICS = Format("rayforest.scored-metrics", 2)
"""1: the metrics of all rows were the keys of the document itself. 2: they stand under `metrics`."""

# Beside results.
CLUSTER = Format(
    "rayforest.cluster",
    1,
    "stop the cluster with the version that started it, or end its processes and delete the file",
)
PAYMENTS_TRUTH = Format("rayforest.payments-truth", 1, "generate the payments again, into an empty folder")
