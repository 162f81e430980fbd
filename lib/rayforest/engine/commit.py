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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from rayforest.engine.manifest import Manifest, open_manifest
from rayforest.engine.plan import PLAN_FORMAT, Plan, encode_plan, open_plan
from rayforest.engine.record import RECORD_FORMAT
from rayforest.engine.shards import Shard
from rayforest.engine.store import Store, prove_create_if_absent, settle
from rayforest.errors import RefusedError

JSON: TypeAlias = Any
"""What `json.dumps` takes: mappings with text keys, lists, text, numbers, booleans, None."""
_CLAIM_FORMAT = 1
_SHOWN_DIFFERENCES = 12
_SHOWN_CHARACTERS = 60


def canonical_json(value: JSON) -> bytes:
    """The same value, the same bytes: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def plan_key(ingredients: Mapping[str, JSON], inputs: Iterable[tuple[str, str]]) -> str:
    """Hash of everything that decides a result.

    Args:
        ingredients: bundle hash, configuration, output schema, shard sizes, package version, ...
        inputs: (path, identity) of each input file in input order; may be a stream.

    Returns:
        32 hex digits (128 bits of SHA-256); also the name of the version's folder.
    """
    digest = hashlib.sha256(canonical_json([PLAN_FORMAT, RECORD_FORMAT, ingredients]))
    for path, identity in inputs:
        digest.update(b"\n" + canonical_json([path, identity]))
    return digest.hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Claim:
    """Which plan the destination belongs to from this number on."""

    number: int
    key: str
    ingredients: Mapping[str, JSON] = field(default_factory=dict)


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

    def write_plan(self, shards: Iterable[Shard], *, locate: Callable[[str], str] | None = None) -> Plan:
        """Create the plan unless it exists; the one that stands is returned. `locate`: see `plan`."""
        settle(self.store, self._plan_path, encode_plan(shards))
        plan = self.plan(locate=locate)
        if plan is None:
            raise FileNotFoundError(self.store.locate(self._plan_path))
        return plan

    def plan(self, *, locate: Callable[[str], str] | None = None) -> Plan | None:
        """The plan, or None before it was written.

        Args:
            locate: input path -> URI, for a source that may have moved since; the planned URIs by default.
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
        pointer = canonical_json({"format": _CLAIM_FORMAT, "key": self.key})
        settle(self.store, numbered_path("current", self.number), pointer)
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
        pointer = json.loads(self.store.get(numbered_path("current", number)))
        claim = self._read_claim(number)
        return Version(self.store, number, pointer["key"], claim.ingredients if claim else {})

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
            inputs: (path, identity) of the inputs; only read to say what differs.
            replace: claim the next number where the destination belongs to another plan.

        Raises:
            RefusedError: the destination belongs to another plan.
            ConfigError: the store cannot create a file only if it is absent.
        """
        prove_create_if_absent(self.store)
        mine = canonical_json({"format": _CLAIM_FORMAT, "key": key, "ingredients": ingredients})
        while True:
            latest = self.latest_claim()
            if latest is not None and latest.key == key:
                return self.version(latest)
            if latest is not None and not replace:
                raise self._refusal(latest, ingredients, inputs)
            number = latest.number + 1 if latest else 1
            settle(self.store, numbered_path("claims", number), mine)

    def _read_claim(self, number: int) -> Claim | None:
        try:
            document = json.loads(self.store.get(numbered_path("claims", number)))
        except FileNotFoundError:
            return None
        return Claim(number, document["key"], document["ingredients"])

    def _refusal(
        self, latest: Claim, ingredients: Mapping[str, JSON], inputs: Iterable[tuple[str, str]]
    ) -> RefusedError:
        asked = json.loads(canonical_json(ingredients))  # tuples as the lists that a claim holds
        differences = list(_differences("", latest.ingredients, asked))
        plan = self.version(latest).plan()
        if plan is not None:
            before = {planned.path: planned.identity for planned in plan.inputs()}
            differences += _input_differences(before, inputs)
        shown = differences[:_SHOWN_DIFFERENCES]
        if len(differences) > len(shown):
            shown.append(f"and {len(differences) - len(shown)} more")
        published = self.version(latest).manifest() is not None
        return RefusedError(
            f"{self.store.uri} holds {'the result' if published else 'an unfinished run'} of another plan",
            expected=f"what claim {latest.number} was made for",
            found="; ".join(shown) or "another plan key from the same ingredients",
            next_step="add --replace to write a new version beside it, or choose another destination",
        )


def numbered_path(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"


def highest_number(store: Store, folder: str) -> int:
    """The highest N of `folder/N.json`, 0 if there is none."""
    names = (re.fullmatch(rf"{folder}/(\d+)\.json", entry.path) for entry in store.list(folder))
    return max((int(name[1]) for name in names if name), default=0)


def _differences(where: str, before: JSON, now: JSON) -> Iterator[str]:
    if before == now:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(name for name in now if name not in before)]:
            path = f"{where}.{name}" if where else str(name)
            if name not in now:
                yield f"{path} removed"
            elif name not in before:
                yield f"{path} added: {_brief(now[name])}"
            else:
                yield from _differences(path, before[name], now[name])
        return
    yield f"{where}: {_brief(before)} -> {_brief(now)}"


def _input_differences(before: Mapping[str, str], inputs: Iterable[tuple[str, str]]) -> list[str]:
    now = dict(inputs)
    if not now:
        return []
    changes = {
        "added": [path for path in now if path not in before],
        "removed": [path for path in before if path not in now],
        "changed": [path for path in now if path in before and before[path] != now[path]],
    }
    return [
        f"{len(paths)} input{'s' if len(paths) > 1 else ''} {change}: {', '.join(islice(paths, 3))}"
        + (", ..." if len(paths) > 3 else "")
        for change, paths in changes.items()
        if paths
    ]


def _brief(value: JSON) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
