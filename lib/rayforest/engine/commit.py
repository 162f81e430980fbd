"""A destination, its claims and its versions: whose result may stand, decided by create-if-absent alone.

    DEST/claims/000001.json, ...     created if absent; the highest says which plan the destination belongs to
    DEST/<plan key>/...              one version: plan, records, data, quarantine, manifest
    DEST/current/000001.json, ...    created if absent, numbered as the claim; the highest names the current version

A version publishes under the number of its claim, so a slow driver of an older claim cannot displace a newer result.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rayforest.engine.differences import JSON, differences
from rayforest.engine.document import read_document
from rayforest.engine.manifest import Manifest, open_manifest
from rayforest.engine.plan import Locate, Plan, encode_plan, open_plan
from rayforest.engine.shards import Shard
from rayforest.engine.stores.requests import prove_create_if_absent, settle
from rayforest.engine.stores.store import Store
from rayforest.errors import RefusedError
from rayforest.formats import CLAIM, CURRENT, Document, Format

_T = TypeVar("_T")
_KEPT_INPUTS = 500
"""Inputs that a claim names, to tell what has changed where its run ended before there was a plan."""


def canonical_json(value: JSON) -> bytes:
    """The same value, the same bytes: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


_PLAN_OF_FILES = 1
"""Version of a plan whose inputs speak for themselves. One with entries differs by its inputs' identities, too."""
_RECORD_OF_KEYS = 1
"""Version of a plan's records. What version 2 added decides no byte, so shards that have records of either are done."""


def plan_key(ingredients: Mapping[str, JSON], inputs: Iterable[tuple[str, str]]) -> str:
    """Hash of everything that decides a result.

    Args:
        ingredients: bundle hash, configuration, output schema, shard sizes, package version, ...
        inputs: (path, identity) of each input file in input order; may be a stream.

    Returns:
        32 hex digits (128 bits of SHA-256); also the name of the version's folder.
    """
    digest = hashlib.sha256(canonical_json([_PLAN_OF_FILES, _RECORD_OF_KEYS, ingredients]))
    for path, identity in inputs:
        digest.update(b"\n" + canonical_json([path, identity]))
    return digest.hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Claim:
    """Which plan the destination belongs to from this number on."""

    number: int
    key: str
    ingredients: Mapping[str, JSON] = field(default_factory=dict)
    inputs: Sequence[tuple[str, str]] | None = None
    """(path, identity) of the first inputs; None in claims of earlier versions of rayforest."""
    input_count: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """One plan's place in a destination. Paths in `store` are relative to the destination."""

    store: Store
    number: int
    """Of the claim under which it publishes."""
    key: str
    ingredients: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """Folder of the version in the store."""
        return self.key

    def write_plan(self, shards: Iterable[Shard], *, locate: Locate | None = None) -> Plan:
        """Create the plan unless it exists; the one that stands is returned. `locate`: see `plan`."""
        settle(self.store, self._plan_path, encode_plan(shards))
        plan = self.plan(locate=locate)
        if plan is None:
            raise FileNotFoundError(self.store.locate(self._plan_path))
        return plan

    def plan(self, *, locate: Locate | None = None) -> Plan | None:
        """The plan, or None before it was written.

        Args:
            locate: where the inputs are now, for a source that may have moved since; as planned by default.
        """
        return open_plan(self.store, self._plan_path, locate)

    def create(self, name: str, data: bytes) -> bytes:
        """Create a small extra file unless it exists, and return what stands."""
        return settle(self.store, f"{self.base}/{name}", data)

    def read(self, name: str) -> bytes | None:
        """A small extra file, or None if it is absent."""
        try:
            return self.store.get(f"{self.base}/{name}")
        except FileNotFoundError:
            return None

    def load(self, name: str, form: Format, parse: Callable[[Document], _T]) -> _T | None:
        """What a small extra file of one of our formats stands for, or None if it is absent; see `Format.read`."""
        return read_document(self.store, f"{self.base}/{name}", form, parse)

    def manifest(self) -> Manifest | None:
        """The manifest, or None before the version was published."""
        return open_manifest(self.store, self.base)

    def make_current(self) -> None:
        """Let readers see this published version, unless a later claim's version is published.

        The manifest has decided whose extra files are the version's; they are put in their places first.
        """
        manifest = self.manifest()
        if manifest is None:
            raise ValueError(f"{self.store.locate(self.base)} is not published")
        for name in manifest.extras:
            target = f"{self.base}/{name}"
            if self.store.size(target) is None:
                waiting = self.read(f"extra-{manifest.document['extra_digest']}/{name}")
                if waiting is not None:  # else another driver has just put it there and cleaned up
                    settle(self.store, target, waiting)
        settle(self.store, numbered_path("current", self.number), CURRENT.write({"key": self.key}))
        digest = manifest.document["extra_digest"]
        self.store.delete([self.extra_path(digest, name) for name in manifest.extras])

    def extra_path(self, digest: str, name: str) -> str:
        """Where an extra file waits until a manifest has named it: two drivers' extras must not mix."""
        return f"{self.base}/extra-{digest}/{name}"

    @property
    def _plan_path(self) -> str:
        return f"{self.base}/plan.parquet"


class Destination:
    """Where results of one kind go: many versions, of which readers see one."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def latest_claim(self) -> Claim | None:
        """The claim with the highest number. Listing only gives a start: numbers have no gaps, so the rest is read."""
        number = highest_number(self.store, "claims")
        claim = self._read_claim(number) if number else None
        while (later := self._read_claim(number + 1)) is not None:
            claim, number = later, number + 1
        return claim

    def latest_versions(self, most: int) -> Iterator[Version]:
        """The versions of the latest claims, the last one first; of each plan key once."""
        latest, seen = self.latest_claim(), set[str]()
        for number in range(latest.number, 0, -1)[:most] if latest else ():
            claim = self._read_claim(number)
            if claim is not None and claim.key not in seen:
                seen.add(claim.key)
                yield self.version(claim)

    def current(self) -> Version | None:
        """The version that readers see, or None before the first one was published."""
        number = highest_number(self.store, "current")
        if not number:
            return None
        key = read_document(self.store, numbered_path("current", number), CURRENT, lambda pointer: str(pointer["key"]))
        if key is None:  # listed a moment ago
            return None
        claim = self._read_claim(number)
        return Version(self.store, number, key, claim.ingredients if claim else {})

    def version(self, claim: Claim) -> Version:
        """The version that a claim was made for."""
        return Version(self.store, claim.number, claim.key, claim.ingredients)

    def claim(
        self,
        key: str,
        ingredients: Mapping[str, JSON],
        inputs: Iterable[tuple[str, str]] = (),
        *,
        replace: bool = False,
    ) -> Version:
        """Claim the destination for a plan key, or join those who already work on it.

        Args:
            key: from `plan_key`.
            ingredients: kept in the claim, so that a later run of another plan can be told what differs.
            inputs: (path, identity) of the inputs; the first are kept in the claim, too.
            replace: claim the next number where the destination belongs to another plan.

        Raises:
            RefusedError: the destination belongs to another plan.
            ConfigError: the store cannot create a file only if it is absent.
        """
        prove_create_if_absent(self.store)
        files = list(inputs)
        mine = CLAIM.write(
            {"key": key, "ingredients": ingredients, "inputs": files[:_KEPT_INPUTS], "input_count": len(files)}
        )
        while True:
            latest = self.latest_claim()
            if latest is not None and latest.key == key:
                return self.version(latest)
            if latest is not None and not replace:
                raise self._refusal(latest, ingredients, files)
            number = latest.number + 1 if latest else 1
            settle(self.store, numbered_path("claims", number), mine)

    def _read_claim(self, number: int) -> Claim | None:
        def parse(document: Document) -> Claim:
            inputs = document.get("inputs")
            named = None if inputs is None else [(path, identity) for path, identity in inputs]
            return Claim(number, document["key"], document["ingredients"], named, document.get("input_count", 0))

        return read_document(self.store, numbered_path("claims", number), CLAIM, parse)

    def _refusal(
        self, latest: Claim, ingredients: Mapping[str, JSON], files: Sequence[tuple[str, str]]
    ) -> RefusedError:
        asked = json.loads(canonical_json(ingredients))  # tuples as the lists that a claim holds
        plan, before, complete = self.version(latest).plan(), latest.inputs, True
        if before is None or latest.input_count > len(before):
            complete = plan is not None
            if plan is not None:  # of files without rows it knows nothing
                before = [(planned.path, planned.identity) for planned in plan.inputs()]
        published = self.version(latest).manifest() is not None
        return RefusedError(
            f"{self.store.uri} holds {'the result' if published else 'an unfinished run'} of other inputs or settings",
            expected="the inputs and settings of that run",
            found=differences(latest.ingredients, asked, before, files, all_before=complete),
            next_step="add --replace to write a new version beside it, or choose another destination",
        )


def numbered_path(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"


def highest_number(store: Store, folder: str) -> int:
    """The highest N of `folder/N.json`, 0 if there is none."""
    names = (re.fullmatch(rf"{folder}/(\d+)\.json", entry.path) for entry in store.list(folder))
    return max((int(name[1]) for name in names if name), default=0)
