"""show: what a destination or a bundle holds, without reading its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rayforest.engine.manifest import open_manifest
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.opening import open_store
from rayforest.features.parts import part_facts
from rayforest.features.profile import Profile
from rayforest.formats import PROFILE, SCORED_METRICS, TUNED_METRICS
from rayforest.metrics.mergeable import scored_metrics

_SHOWN = ("evaluated_on", "test", "of_test", "valid", "of_valid", "params", "rounds", "trials", "notes")


def describe(destination: str | Path) -> dict[str, Any]:
    """Facts about the current version of a destination, or about a bundle's own folder."""
    store = open_store(destination)
    try:
        store.get("manifest.json")
    except FileNotFoundError:
        manifest = read_manifest(store)
    else:  # the folder of one version
        parent, _, base = store.uri.rstrip("/").rpartition("/")
        found = open_manifest(open_store(parent), base)
        assert found is not None  # noqa: S101  it was there a moment ago
        manifest = found
    table: dict[str, Any] = {
        "command": "show",
        "destination": str(destination),
        "version": manifest.store.locate(manifest.base),
        **manifest.summary,
    }
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
