"""export: the tuned model and its features to one verified bundle.

Before anything is written, LightGBM and onnxruntime score the project's own held-out rows and rows made at the model's
thresholds. One differing bit, and there is no bundle.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version as package_version
from typing import Any

import numpy as np
import onnx

from rayforest.bundle.bundle import BUNDLE_FORMAT, link_current
from rayforest.bundle.known_parts import training_json
from rayforest.engine.commit import Destination, plan_key
from rayforest.engine.publish import publish
from rayforest.engine.stores.opening import open_store
from rayforest.engine.usable import refuse_unusable
from rayforest.errors import ConfigError, InputError
from rayforest.features.recipe import Recipe
from rayforest.forest import Forest
from rayforest.onnx.feature_graph import full_model, inexpressible, refuse_names
from rayforest.onnx.parity import RawScorer, check_parity
from rayforest.onnx.tree_ensemble import from_lightgbm
from rayforest.project.sections import Project
from rayforest.stages.result import Reporter, Silent, StageResult
from rayforest.tuning.dataset import Matrix, PreparedData, encode_features
from rayforest.tuning.tune import tuned_model

_PACKAGES = ("rayforest", "lightgbm", "onnx", "onnxruntime", "polars", "pyarrow")


def export(project: Project, *, replace: bool = False, reporter: Reporter | None = None) -> StageResult:
    """Write ROOT/bundle from ROOT/tuned and ROOT/prepared.

    Raises:
        InputError: there is no tuned model, or prepare has run again since.
        ConfigError: a feature cannot be expressed in the graph.
        ParityError: engines differ.
        RefusedError: the destination holds the bundle of another model.
    """
    began, reporter = time.monotonic(), reporter or Silent()
    data = PreparedData(project.stage("prepared"))
    tuned, booster, problem = tuned_model(project)
    if tuned.summary["prepared"] != data.manifest.key:
        raise InputError(
            f"the model in {project.stage('tuned')} was not trained on what {project.stage('prepared')} holds now",
            expected=f"a model of the prepared version {data.manifest.key[:16]}...",
            found=f"one of {str(tuned.summary['prepared'])[:16]}...",
            next_step="run: rayforest tune PROJECT --replace",
        )
    destination = project.stage("bundle")
    refuse_unusable(destination)
    ingredients: dict[str, Any] = {
        "stage": "export",
        "bundle_format": BUNDLE_FORMAT,
        "export": project.export.model_dump(mode="json"),
        "packages": {name: package_version(name) for name in _PACKAGES},
    }
    inputs = [("prepared", data.manifest.key), ("tuned", tuned.key)]
    version = Destination(open_store(destination)).claim(
        plan_key(ingredients, inputs), ingredients, inputs=inputs, replace=replace
    )
    manifest = version.manifest()
    resumed = manifest is not None
    if manifest is None:
        refuse_inexpressible(data.recipe, project.export.graph)
        trees = from_lightgbm(booster, labels=problem.labels or None)
        rows = held_out_rows(data, project.export.parity_rows)
        evidence = check_parity(booster, trees, rows, also=_kernel(trees))
        reporter.say(f"export: {', '.join(evidence.engines)} give the same bits on {evidence.rows:,} rows")
        files = _files(data, trees, project.export.graph)
        files |= {
            "booster.txt": tuned.extra("booster.txt"),
            "metrics.json": tuned.extra("metrics.json"),
            "parity.json": json.dumps(asdict(evidence), indent=1).encode(),
        }
        summary = {
            "stage": "export",
            "bundle_format": BUNDLE_FORMAT,
            "graph": project.export.graph,
            "trees": "trees.onnx" if project.export.graph == "full" else "model.onnx",
            "packages": ingredients["packages"],
            "plan_keys": dict(inputs),
        }
        manifest = publish(version, None, extra=files, summary=summary)
    else:
        version.make_current()
    link_current(destination, manifest)
    parity = json.loads(manifest.extra("parity.json"))
    return StageResult(
        command="export",
        destination=destination,
        seconds=time.monotonic() - began,
        resumed=resumed,
        details={
            "bundle": version.store.locate(version.base),
            "graph": project.export.graph,
            "parity": parity,
        },
    )


def refuse_inexpressible(recipe: Recipe, graph: str) -> None:
    """Refuse features that a full graph cannot compute exactly, or whose columns have the name of one of its outputs.

    Raises:
        ConfigError: names each feature and what it holds.
    """
    if graph != "full":
        return
    reasons = {name: found for name, e in recipe.expressions.items() if (found := inexpressible(e))}
    refuse_names(recipe.feature_columns)
    if reasons:
        raise ConfigError(
            "the ONNX graph cannot compute these features exactly",
            expected="features from operations that ONNX expresses in every bit",
            found="; ".join(f"{name}: {', '.join(found)}" for name, found in reasons.items()),
            next_step='change the features, or set export.graph = "trees": features stay outside the graph',
        )


def _kernel(trees: onnx.ModelProto) -> dict[str, RawScorer]:
    """The tree kernel as a further engine to compare, where it reads this model."""
    try:
        forest = Forest.from_onnx(trees)
    except ConfigError:  # linear trees: score then takes onnxruntime
        return {}
    return {"kernel": lambda rows: forest.raw_score(rows).astype(np.float64, copy=False)}


def held_out_rows(data: PreparedData, limit: int) -> Matrix:
    """Up to `limit` rows that the model was not trained on (test, then validation rows), as model inputs."""
    parts: list[Matrix] = []
    left = limit
    for part in ("test", "valid"):
        for frame in data.frames(part):
            if left > 0:
                parts.append(encode_features(frame.head(left), data.feature_names, data.categories))
                left -= len(parts[-1])
    return np.concatenate(parts) if parts else np.empty((0, len(data.feature_names)))


def _files(data: PreparedData, trees: onnx.ModelProto, graph: str) -> dict[str, bytes]:
    recipe = data.recipe
    features: dict[str, Any] = json.loads(recipe.to_json()) | {"categories": data.categories}
    files = {
        "features.json": json.dumps(features, indent=1, ensure_ascii=False).encode(),
        "contract.json": recipe.contract.to_json().encode(),
        "profile.json": data.manifest.extra("profile.json"),
    }
    if "split.json" in data.manifest.extras:
        files["training.json"] = training_json(data.manifest.extra("split.json"), data.inputs())
    if graph == "trees":
        return files | {"model.onnx": trees.SerializeToString()}
    full = full_model(recipe.expressions, _categories(recipe, data.categories), trees)
    return files | {"model.onnx": full.SerializeToString(), "trees.onnx": trees.SerializeToString()}


def _categories(recipe: Recipe, fitted: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: fitted[name] for name, _ in recipe.features if name in fitted}
