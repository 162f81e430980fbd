"""The tree kernel beside its peers, on one thread: `python -m benchmarks.tree_kernel [--quick] [--patient]`.

Every contender scores the same rows of the same model, in the form that suits it best (see SETTINGS). Results are
compared before anything is timed. Rounds are interleaved, a call of each contender after the other, and the median of
the CPU seconds counts: on a shared machine trust the ratios. Writes benchmarks/results/tree_kernel.json and .md.

Contenders that are not installed are left out and named. `--patient` lets lleaves compile large models (minutes, GB).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rayforest.process_settings import ONE_THREAD

os.environ.update(ONE_THREAD)  # read by what is imported next

import lightgbm
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import machine, write
from benchmarks.reference.gather import gather_scorer
from rayforest.forest import Forest
from rayforest.onnx import from_lightgbm, runtime_session
from rayforest.onnx.lightgbm_text import read_lightgbm

SETTINGS = {
    "kernel": "rayforest.forest.Forest.raw_score, float64 matrix in row order",
    "kernel, columns": "the same, float64 matrix in column order (Arrow's)",
    "kernel, float32": "the same, float32 matrix in column order, thresholds in float64",
    "onnxruntime v5": "TreeEnsemble in double by rayforest.onnx, one thread, 4,096 rows a call",
    "onnxruntime v1": "TreeEnsembleRegressor in float by onnxmltools, one thread, 4,096 rows a call, float32 rows",
    "LightGBM": "Booster.predict(raw_score=True, num_threads=1)",
    "C, AVX-512 gathers": "benchmarks/reference/gather_avx512.c, cc -O3 -march=native",
    "lleaves": "Model.compile(), predict(n_jobs=1)",
    "treelite GTIL": "treelite.gtil.predict(nthread=1, pred_margin=True)",
    "oneDAL": "daal4py.mb.convert_model, one thread",
}
Scorer = Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class Shape:
    """A model and a table."""

    name: str
    trees: int
    leaves: int
    features: int
    rows: int
    """Rows a call."""
    categorical: int = 0
    """Columns of 1,000 codes among the features."""
    missing: float = 0.0
    """Share of NaN."""


SHAPES = (
    Shape("100 x 31, 40 features", 100, 31, 40, 50_000),
    Shape("500 x 127, 40 features", 500, 127, 40, 10_000),
    Shape("100 x 31, 12 features", 100, 31, 12, 50_000),
    Shape("100 x 31, 400 features", 100, 31, 400, 20_000),
    Shape("100 x 31, 5 of 30 categorical", 100, 31, 30, 50_000, categorical=5),
    Shape("100 x 31, a third NaN", 100, 31, 40, 50_000, missing=1 / 3),
    Shape("20 x 4,000, 40 features", 20, 4_000, 40, 20_000),
    Shape("100 x 31, 1 row a call", 100, 31, 40, 1),
    Shape("100 x 31, 10 rows a call", 100, 31, 40, 10),
    Shape("100 x 31, 100 rows a call", 100, 31, 40, 100),
    Shape("500 x 127, 1 row a call", 500, 127, 40, 1),
    Shape("500 x 127, 100 rows a call", 500, 127, 40, 100),
)


@dataclass
class Result:
    """Times of one shape."""

    shape: Shape
    microseconds_a_row: dict[str, float] = field(default_factory=dict)
    agrees: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    ready_seconds: dict[str, float] = field(default_factory=dict)
    """To convert and compile."""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="fewer rows, rounds and shapes")
    arguments.add_argument("--patient", action="store_true", help="let lleaves compile large models")
    arguments.add_argument("--only", default="", help="shapes whose name holds this text")
    chosen = arguments.parse_args()
    shapes = [s for s in SHAPES if chosen.only in s.name]
    if chosen.quick:
        shapes = [s for s in shapes if s.trees * s.leaves <= 80_000 and "400" not in s.name]
    results = []
    for shape in shapes:
        results.append(measure(shape, rounds=3 if chosen.quick else 9, patient=chosen.patient, quick=chosen.quick))
        print(table(results[-1:]), file=sys.stderr, flush=True)
    document = {
        "machine": machine(),
        "versions": versions(),
        "settings": SETTINGS,
        "results": [asdict(r) for r in results],
    }
    write("tree_kernel", document, markdown(results), quick=chosen.quick)
    return 0


def versions() -> dict[str, str]:
    found = {}
    for name in (
        "numba",
        "llvmlite",
        "onnxruntime",
        "lightgbm",
        "lleaves",
        "treelite",
        "scikit-learn-intelex",
        "onnxmltools",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def measure(shape: Shape, *, rounds: int, patient: bool, quick: bool) -> Result:
    booster, x = model_and_rows(shape, 5_000 if quick and shape.rows > 5_000 else shape.rows)
    result = Result(shape)
    # A small call takes other rows each time: otherwise branch predictors learn them by heart.
    batch = min(shape.rows, len(x))
    scorers = contenders(booster, x, batch, shape, result, patient=patient)
    reference = booster.predict(x, raw_score=True, num_threads=1)
    for name, scorer in scorers.items():
        result.agrees[name] = agreement(scorer(), reference)
    times: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(rounds):
        for name, scorer in scorers.items():
            began = time.process_time()
            scorer()
            times[name].append(time.process_time() - began)
    for name, seconds in times.items():
        result.microseconds_a_row[name] = float(np.median(seconds)) / len(x) * 1e6
    return result


def model_and_rows(shape: Shape, rows: int) -> tuple[lightgbm.Booster, NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    many = max(rows, 1_000 if rows < 1_000 else rows)
    x = rng.normal(size=(max(20_000, many), shape.features))
    y = x @ rng.normal(size=shape.features) + np.sin(3 * x[:, 0]) * 4
    for c in range(shape.categorical):
        x[:, c] = rng.integers(0, 1_000, len(x))
        y += rng.normal(size=1_000)[x[:, c].astype(int)]
    if shape.missing:
        x[rng.random(x.shape) < shape.missing] = np.nan
    params = {"objective": "regression", "num_leaves": shape.leaves, "num_threads": 1, "verbose": -1}
    params |= {"min_data_in_leaf": 2} if shape.leaves > 1_000 else {}
    dataset = lightgbm.Dataset(x[:20_000], y[:20_000], categorical_feature=list(range(shape.categorical)))
    return lightgbm.train(params, dataset, shape.trees), np.ascontiguousarray(x[:many])


def agreement(found: NDArray[Any], reference: NDArray[np.float64]) -> str:
    found = np.asarray(found, dtype=np.float64).reshape(-1)
    reference = reference[: len(found)]
    different = found != reference
    if not different.any():
        return "every bit"
    return f"{different.mean():.1%} differ, by up to {np.abs(found - reference).max():.2g}"


def in_batches(score: Callable[[NDArray[Any]], Any], x: NDArray[Any], rows: int) -> Scorer:
    def run() -> NDArray[Any]:
        return np.concatenate([np.asarray(score(x[i : i + rows])).reshape(-1) for i in range(0, len(x), rows)])

    return run


def contenders(
    booster: lightgbm.Booster, x: NDArray[np.float64], batch: int, shape: Shape, result: Result, *, patient: bool
) -> dict[str, Scorer]:
    found: dict[str, Scorer] = {}

    def enter(name: str, make: Callable[[], Scorer]) -> None:
        began = time.perf_counter()
        try:
            found[name] = make()
            result.ready_seconds[name] = round(time.perf_counter() - began, 3)
        except Exception as error:  # a peer that is missing or fails is named, not fatal
            result.left_out[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"

    exact = from_lightgbm(booster)
    single = np.ascontiguousarray(x, dtype=np.float32)

    def kernel(rows: NDArray[Any]) -> Scorer:
        return in_batches(Forest.from_onnx(exact).raw_score, rows, batch)

    enter("kernel", lambda: kernel(x))
    if batch > 1_000:
        enter("kernel, columns", lambda: kernel(np.asfortranarray(x)))
        enter("kernel, float32", lambda: kernel(np.asfortranarray(single)))
    enter("onnxruntime v5", lambda: _onnxruntime(exact, "features", "raw_score", x, min(batch, 4_096)))
    enter("onnxruntime v1", lambda: _onnxruntime_float(booster, single, min(batch, 4_096)))
    enter("LightGBM", lambda: in_batches(lambda r: booster.predict(r, raw_score=True, num_threads=1), x, batch))
    if not shape.missing and batch > 1_000:  # it scores whole blocks of 64 rows
        enter("C, AVX-512 gathers", lambda: in_batches(gather_scorer(read_lightgbm(booster)), x, batch))
    enter("treelite GTIL", lambda: _treelite(booster, x, batch))
    enter("oneDAL", lambda: _onedal(booster, x, batch))
    if patient or shape.trees * shape.leaves < 10_000:
        enter("lleaves", lambda: _lleaves(booster, x, batch))
    else:
        result.left_out["lleaves"] = "takes minutes to compile: --patient"
    return found


def _onnxruntime(model: Any, name: str, output: str, x: NDArray[Any], rows: int) -> Scorer:
    session = runtime_session(model.SerializeToString())
    return in_batches(lambda part: session.run([output], {name: part})[0], x, rows)


def _onnxruntime_float(booster: lightgbm.Booster, x: NDArray[np.float32], rows: int) -> Scorer:
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    model = convert_lightgbm(booster, initial_types=[("x", FloatTensorType([None, x.shape[1]]))], target_opset=15)
    return _onnxruntime(model, "x", model.graph.output[0].name, x, rows)


def _treelite(booster: lightgbm.Booster, x: NDArray[np.float64], batch: int) -> Scorer:
    import treelite

    model = treelite.frontend.from_lightgbm(booster)
    return in_batches(lambda rows: treelite.gtil.predict(model, rows, nthread=1, pred_margin=True), x, batch)


def _lleaves(booster: lightgbm.Booster, x: NDArray[np.float64], batch: int) -> Scorer:
    import lleaves

    path = Path(tempfile.mkdtemp()) / "model.txt"
    booster.save_model(path)
    model = lleaves.Model(model_file=str(path))
    model.compile()
    return in_batches(lambda rows: model.predict(rows, n_jobs=1), x, batch)


def _onedal(booster: lightgbm.Booster, x: NDArray[np.float64], batch: int) -> Scorer:
    import daal4py

    daal4py.daalinit(nthreads=1)
    model = daal4py.mb.convert_model(booster)
    return in_batches(model.predict, x, batch)


def table(results: list[Result]) -> str:
    """A table a shape: microseconds a row, and how many times the kernel is faster."""
    lines = []
    for result in results:
        lines += [
            f"\n### {result.shape.name}\n",
            "| contender | us a row | kernel is faster by | agrees with LightGBM |",
        ]
        lines += ["|---|---|---|---|"]
        own = result.microseconds_a_row["kernel"]
        for name, each in sorted(result.microseconds_a_row.items(), key=lambda item: item[1]):
            lines.append(f"| {name} | {each:.3f} | {each / own:.1f} | {result.agrees[name]} |")
        lines += [f"| {name} | - | - | left out: {why} |" for name, why in result.left_out.items()]
    return "\n".join(lines)


def markdown(results: list[Result]) -> str:
    settings = "\n".join(f"- {name}: {text}" for name, text in SETTINGS.items())
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    title = "# Scoring trees on one thread\n\nMedian CPU time of interleaved rounds; the machine's load was " + load
    return f"{title}.\n\n{settings}\n{table(results)}\n"


if __name__ == "__main__":
    sys.exit(main())
