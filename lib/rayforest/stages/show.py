"""show: what a destination or a bundle holds, without reading its data, and how far an unfinished run is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rayforest.engine.commit import Destination
from rayforest.engine.manifest import Manifest, open_manifest
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.opening import open_store
from rayforest.engine.unfinished import UnfinishedRun, unfinished_run
from rayforest.features.parts import part_facts
from rayforest.features.profile import Profile
from rayforest.formats import PROFILE, SCORED_METRICS, TUNED_METRICS
from rayforest.metrics.mergeable import scored_metrics

_SHOWN = ("evaluated_on", "test", "of_test", "valid", "of_valid", "params", "rounds", "trials", "notes")
_SHORT_KEY = 12
"""Digits of a plan key that tell versions apart for people."""


def describe(destination: str | Path) -> dict[str, Any]:
    """Facts about the current version of a destination, and about the run that is to replace it or to make the first
    one; or about a bundle's own folder.

    Raises:
        InputError: no run has begun there.
    """
    store = open_store(destination)
    table: dict[str, Any] = {"command": "show", "destination": str(destination)}
    try:
        store.get("manifest.json")
    except FileNotFoundError:
        place = Destination(store)
        run = unfinished_run(place)
        published = {} if run is not None and place.current() is None else _published(read_manifest(store))
        return table | published | ({} if run is None else {"unfinished_run": _unfinished(run)})
    else:  # the folder of one version
        parent, _, base = store.uri.rstrip("/").rpartition("/")
        found = open_manifest(open_store(parent), base)
        assert found is not None  # noqa: S101  it was there a moment ago
        return table | _published(found)


def _unfinished(run: UnfinishedRun) -> dict[str, Any]:
    """Names as in the events of progress; what is not known is left out."""
    plan = run.plan
    table: dict[str, Any] = {
        "stage": run.ingredients.get("stage"),
        "plan_key": run.key[:_SHORT_KEY],
        "version": run.folder,
        "shards": None if plan is None else len(plan),
        "done": None if plan is None else run.done,
        "rows": None if plan is None else plan.rows,
        "rows_in": None if plan is None else run.rows_in,
        "steps": dict(run.steps) or None,
        "failed": run.failed,
        "last_error": run.last_error,
        "since": _utc(run.since),
        "last_sign_of_life": _utc(run.last_sign),
        "seconds_ago": None if run.last_sign is None else max(round(time.time() - run.last_sign), 0),
    }
    return {name: value for name, value in table.items() if value is not None}


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _published(manifest: Manifest) -> dict[str, Any]:
    table: dict[str, Any] = {"version": manifest.store.locate(manifest.base), **manifest.summary}
    if manifest.shards:
        table |= {
            "rows_in": manifest.rows_in,
            "rows_out": manifest.rows_out,
            "rows_quarantined": manifest.rows_quarantined,
            "shards": manifest.shards,
            "bytes": manifest.bytes_out,
            "columns": {field.name: str(field.type) for field in manifest.schema},
        }
    if manifest.reasons:
        table["quarantine_reasons"] = manifest.reasons
    if "profile.json" in manifest.extras:
        table["parts"] = part_facts(manifest.read("profile.json", PROFILE, Profile.from_document))
    if "metrics.json" in manifest.extras:
        if manifest.summary["stage"] == "score":
            table |= manifest.read("metrics.json", SCORED_METRICS, scored_metrics)
        else:
            metrics = manifest.read("metrics.json", TUNED_METRICS, dict)
            table["metrics"] = {k: v for k, v in metrics.items() if k in _SHOWN}
    if manifest.extras:
        table["files"] = list(manifest.extras)
    return table
