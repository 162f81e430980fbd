"""export: the tuned model and its features to one verified bundle.

Before anything is written, LightGBM and onnxruntime score the project's own held-out rows and rows made at the model's
thresholds. One differing bit, and there is no bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from typing import Any

import numpy as np
import onnx

from rayforest.bundle.bundle import link_current
from rayforest.bundle.known_parts import training_json
from rayforest.engine.manifest import Manifest
from rayforest.errors import ConfigError, InputError
from rayforest.features.fitted import Matrix
from rayforest.features.recipe import Recipe
from rayforest.forest import Forest
from rayforest.formats import BUNDLE, PARITY, SPLIT
from rayforest.onnx.feature_graph import full_model, inexpressible, refuse_names
from rayforest.onnx.parity import ParityEvidence, RawScorer, check_parity
from rayforest.onnx.tree_ensemble import from_lightgbm
from rayforest.preparing.split_rule import SplitRule
from rayforest.stages.result import Facts, StageResult
from rayforest.stages.stage import Claimed, Context, Product, run_stage
from rayforest.tuning.dataset import PreparedData
from rayforest.tuning.tune import TunedModel, tuned_model

_PACKAGES = ("rayforest", "lightgbm", "onnx", "onnxruntime", "polars", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class ExportedFacts(Facts):
    """The bundle that was written, and the evidence that it is the model."""

    bundle: str
    """Its own folder or URI."""
    graph: str
    """full or trees."""
    parity: dict[str, Any]
    """parity.json."""

    def as_dict(self) -> dict[str, object]:
        """The stage's own keys of the JSON object of --json."""
        return {"bundle": self.bundle, "graph": self.graph, "parity": self.parity}


@dataclass(frozen=True)
class Export:
    """The stage: ROOT/tuned and ROOT/prepared to ROOT/bundle."""

    context: Context
    data: PreparedData
    tuned: TunedModel
    command: str = field(default="export", init=False)

    @classmethod
    def look(cls, context: Context) -> Export:
        """Open the tuned model and what it was trained on.

        Raises:
            InputError: there is no tuned model, or prepare has run again since.
        """
        project = context.project
        data = PreparedData(project.stage("prepared"))
        tuned = tuned_model(project)
        if tuned.prepared != data.manifest.key:
            raise InputError(
                f"the model in {project.stage('tuned')} was not trained on what {project.stage('prepared')} holds now",
                expected=f"a model of the prepared version {data.manifest.key[:16]}...",
                found=f"one of {tuned.prepared[:16]}...",
                next_step="run: rayforest tune PROJECT --replace",
            )
        return cls(context, data, tuned)

    @property
    def destination(self) -> str:
        """ROOT/bundle."""
        return self.context.project.stage("bundle")

    @property
    def inputs(self) -> Sequence[tuple[str, str]]:
        """The plan keys of what it is made of."""
        return [("prepared", self.data.manifest.key), ("tuned", self.tuned.manifest.key)]

    def ingredients(self) -> dict[str, Any]:
        """All that decides the bundle besides model and data."""
        return {
            "bundle_format": BUNDLE.version,
            "export": self.context.project.export.model_dump(mode="json"),
            "packages": {name: package_version(name) for name in _PACKAGES},
        }

    def work(self, claimed: Claimed) -> Product:  # noqa: ARG002  there are no shards
        """Convert, prove, and put the files together.

        Raises:
            ConfigError: a feature cannot be expressed in the graph.
            ParityError: engines differ.
        """
        data, tuned, settings = self.data, self.tuned, self.context.project.export
        refuse_inexpressible(data.features.recipe, settings.graph)
        trees = from_lightgbm(tuned.booster, labels=tuned.problem.labels or None)
        rows = held_out_rows(data, settings.parity_rows)
        evidence = check_parity(tuned.booster, trees, rows, also=_kernel(trees))
        self.context.reporter.say(f"export: {', '.join(evidence.engines)} give the same bits on {evidence.rows:,} rows")
        files = _files(data, trees, settings.graph) | {
            "booster.txt": tuned.manifest.extra("booster.txt"),
            "metrics.json": tuned.manifest.extra("metrics.json"),
            "parity.json": PARITY.write(evidence.as_dict(), indent=1),
        }
        summary = {
            "bundle_format": BUNDLE.version,
            "graph": settings.graph,
            "trees": "trees.onnx" if settings.graph == "full" else "model.onnx",
            "packages": self.ingredients()["packages"],
            "plan_keys": dict(self.inputs),
        }
        return Product(files, summary)

    def facts(self, manifest: Manifest) -> ExportedFacts:
        """From the manifest and parity.json."""
        return ExportedFacts(
            bundle=manifest.store.locate(manifest.base),
            graph=str(manifest.summary["graph"]),
            parity=manifest.read("parity.json", PARITY, lambda document: ParityEvidence(**document)).as_dict(),
        )


def export(context: Context, *, replace: bool = False) -> StageResult[ExportedFacts]:
    """Write ROOT/bundle, and give the files of the current one their fixed paths. Errors: see `Export`, `run_stage`."""
    result = run_stage(Export.look, context, replace=replace)
    link_current(result.destination)
    return result


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
                parts.append(data.features.matrix(frame.head(left)))
                left -= len(parts[-1])
    return np.concatenate(parts) if parts else np.empty((0, len(data.features.names)))


def _files(data: PreparedData, trees: onnx.ModelProto, graph: str) -> dict[str, bytes]:
    features = data.features
    files = features.bundle_files() | {"profile.json": data.manifest.extra("profile.json")}
    if "split.json" in data.manifest.extras:
        split = data.manifest.read("split.json", SPLIT, SplitRule.from_document)
        files["training.json"] = training_json(split, data.inputs())
    if graph == "trees":
        return files | {"model.onnx": trees.SerializeToString()}
    full = full_model(features.recipe.expressions, features.categories_in_order, trees)
    return files | {"model.onnx": full.SerializeToString(), "trees.onnx": trees.SerializeToString()}
