"""The bundle: everything that another program needs to score raw rows, in plain files with hashes.

model.onnx         raw columns in, scores out (export.graph = "full"), or features in, scores out ("trees")
trees.onnx         features in, the same scores out; only beside a full graph
                   scores: raw_score, probability (of classes) and prediction: the label, or a quantity
booster.txt        the LightGBM model text
features.json      the recipe: SQL of the features, key, target; and the fitted categories
contract.json      what raw columns must hold
profile.json       what the training rows looked like
metrics.json       problem, metrics and the part that they are of (test or valid), chosen parameters
training.json      hashes of the files that prepare read, and how it split their rows
parity.json        evidence that LightGBM and onnxruntime give the same bits
manifest.json      format, SHA-256 of every file above, package versions, plan keys of the data
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from rayforest.bundle.known_parts import TrainingTables, training_tables
from rayforest.engine.commit import Destination
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Store
from rayforest.errors import BundleError, InputError
from rayforest.features.fitted import FittedFeatures
from rayforest.formats import BUNDLE, MANIFEST, TRAINING, TUNED_METRICS, Document, Format
from rayforest.metrics.problem import Problem

_T = TypeVar("_T")
LARGEST_FILE = 4 << 30
"""Bytes; a larger file in a bundle is refused unread."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose hashes were checked."""

    location: str
    """Folder or URI."""
    digest: str
    """SHA-256 of manifest.json, and so of every file that it names."""
    manifest: dict[str, Any]
    files: dict[str, bytes] = field(repr=False)

    def read(self, name: str) -> bytes:
        """A file of the bundle.

        Raises:
            BundleError: its manifest names no such file.
        """
        if name not in self.files:
            raise BundleError(
                f"the bundle at {self.location} has no {name}",
                expected="the files that export wrote",
                found=", ".join(sorted(self.files)),
                next_step="run: rayforest export PROJECT --replace",
            )
        return self.files[name]

    def document(self, name: str, form: Format, parse: Callable[[Document], _T]) -> _T:
        """What a file of the bundle in one of our formats stands for; see `Format.read`.

        Raises:
            BundleError: the bundle's manifest names no such file.
            FormatError: the file is damaged, of another kind, or newer.
        """
        return form.read(self.read(name), f"{self.location}/{name}", parse)

    @property
    def trees(self) -> str:
        """Name of the graph that takes finished features."""
        return str(self.manifest["summary"]["trees"])

    @cached_property
    def features(self) -> FittedFeatures:
        """How features come from raw columns."""
        return FittedFeatures.of_bundle(self.document)

    @cached_property
    def training(self) -> tuple[TrainingTables | None, str]:
        """The tables that the model was trained on; or nothing, and why not."""
        if "training.json" not in self.files:
            return None, "the bundle was exported before bundles said which rows a model was trained on"
        where = f"{self.location}/training.json"
        return self.document("training.json", TRAINING, partial(training_tables, where=where))

    @cached_property
    def problem(self) -> Problem:
        """What the model predicts."""
        return self.document("metrics.json", TUNED_METRICS, lambda metrics: Problem.from_dict(metrics["problem"]))


def find_bundle(store: Store) -> tuple[str, bytes]:
    """Folder in the store, and manifest, of the current bundle of a destination, or of a bundle's own folder.

    Raises:
        InputError: there is no bundle.
    """
    for prefix in (_current_folder(store), ""):
        if prefix is not None:
            try:
                return prefix, store.get(f"{prefix}manifest.json")
            except FileNotFoundError:
                continue
    raise InputError(
        f"there is no bundle at {store.uri}",
        expected="a bundle that export wrote",
        next_step="run: rayforest export PROJECT",
    )


def _current_folder(store: Store) -> str | None:
    version = Destination(store).current()
    return None if version is None else f"{version.base}/"


def link_current(destination: str) -> None:
    """Give the current bundle's files fixed paths, DEST/model.onnx and so on, for programs that know no versions.

    Links replace each other one by one, so rayforest itself follows `current/`. Object stores have no links.
    """
    if "://" in destination:
        return
    manifest = read_manifest(destination)
    for name in (*manifest.extras, "manifest.json"):
        link = Path(destination) / name
        fresh = link.with_name(f".{name}-{secrets.token_hex(4)}")
        fresh.symlink_to(Path(manifest.base) / name)
        fresh.replace(link)


def load_bundle(location: str, *, expected: str | None = None) -> Bundle:
    """Read a bundle and check every hash before anything in it is parsed.

    Args:
        location: the bundle's folder, or the destination of export, whose current bundle is taken.
        expected: SHA-256 that the manifest must have.

    Raises:
        InputError: there is no bundle.
        BundleError: a hash differs, a file is missing or too large.
        FormatError: the manifest is damaged, or the bundle is newer than this rayforest.
    """
    store = open_store(location)
    prefix, text = find_bundle(store)
    digest = hashlib.sha256(text).hexdigest()
    where = store.locate(prefix.rstrip("/")) if prefix else store.uri
    if expected is not None and digest != expected:
        raise BundleError(
            f"the bundle at {where} has changed",
            expected=f"manifest.json with SHA-256 {expected[:16]}...",
            found=f"{digest[:16]}...",
            next_step="run score again",
        )
    path = f"{where}/manifest.json"
    manifest, hashes = MANIFEST.read(text, path, _hashes)
    if "bundle_format" not in manifest["summary"]:
        raise BundleError(f"{path} is not the manifest of a bundle", next_step="run: rayforest export PROJECT")
    BUNDLE.checked(BUNDLE.kind, manifest["summary"]["bundle_format"], f"the bundle at {where}")
    return Bundle(where, digest, manifest, {name: _checked(store, prefix, name, sha) for name, sha in hashes.items()})


def _hashes(document: Document) -> tuple[Document, dict[str, str]]:
    """A manifest, and the SHA-256 of each file that it names."""
    document.having(("summary", "extra"))
    return document, {name: str(entry["sha256"]) for name, entry in document["extra"].items()}


def _checked(store: Store, prefix: str, name: str, sha256: str) -> bytes:
    if "/" in name or name.startswith("."):
        raise BundleError(
            f"the bundle's manifest names {name!r}",
            expected="plain file names in the bundle's own folder",
            next_step="do not use this bundle: export it again",
        )
    path = f"{prefix}{name}"
    size = store.size(path)
    if size is None:
        raise BundleError(
            f"{store.locate(path)} is missing", next_step="export the bundle again, or copy all of its files"
        )
    if size > LARGEST_FILE:
        raise BundleError(
            f"{store.locate(path)} is too large",
            expected=f"at most {LARGEST_FILE:,} bytes",
            found=f"{size:,} bytes",
            next_step="export the bundle again, of a model with fewer or smaller trees if it is as large then",
        )
    data = store.get(path)
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise BundleError(
            f"{store.locate(path)} is damaged or was changed",
            expected=f"SHA-256 {sha256[:16]}...",
            found=f"{found[:16]}...",
            next_step="export the bundle again; files of a bundle are never edited",
        )
    return data
