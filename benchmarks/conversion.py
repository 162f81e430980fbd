"""What does the stock converter of LightGBM models get wrong, and what does an exact one cost?

Beside each other: LightGBM's own predict, our `from_lightgbm`, and onnxmltools. First the models on which conversions
go wrong: the share of rows whose prediction is off by more than 1e-6 relative. Then the time a row with categorical
splits. Everything runs on one thread; results are compared before anything is timed.

    python -m benchmarks.conversion [--quick]

Needs the extra `bench` (onnxmltools).
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import lightgbm
import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.harness import write
from rayforest.onnx import check_parity, from_lightgbm, rows_a_call, runtime_session

Floats = NDArray[np.float64]
OFF = 1e-6
BASE = {"verbose": -1, "num_threads": 1, "seed": 1, "min_data_per_group": 5, "cat_smooth": 1}


@dataclass(frozen=True)
class Model:
    """A model to convert: a name, LightGBM's parameters, and the data that shows the difference."""

    name: str
    params: dict[str, Any]
    data: Callable[[int], tuple[Floats, Floats]]
    rounds: int = 100
    categorical: tuple[int, ...] = ()
    scored: Callable[[Floats], Floats] = lambda x: x
    """The rows to score, from those of training."""


@dataclass(frozen=True)
class Outcome:
    """One model through both converters."""

    model: str
    ours_bits_off: int
    ours_max_relative: float
    stock_rows_off: float | None
    stock_largest_error: float | None
    """Of the prediction, or of the predictions' standard deviation, whichever is smaller."""
    stock_refusal: str


@dataclass(frozen=True)
class Timing:
    """Microseconds of CPU time a row, medians over interleaved rounds."""

    categories: int
    trees: int
    leaves: int
    lightgbm_us: float
    ours_us: float
    stock_us: float | None
    ours_to_lightgbm: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="fewer rows, trees and rounds")
    chosen = arguments.parse_args()
    try:
        versions = {name: version(name) for name in ("rayforest", "lightgbm", "onnxruntime", "onnxmltools")}
    except PackageNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed: pip install 'rayforest[bench]'") from None
    warnings.filterwarnings("ignore")  # of the stock converter
    rows = 2_000 if chosen.quick else 20_000
    outcomes = [compare(model, rows, quick=chosen.quick) for model in MODELS]
    shapes = [(100, 31)] if chosen.quick else [(100, 31), (500, 127)]
    timings = [
        measure(categories, trees, leaves, quick=chosen.quick)
        for trees, leaves in shapes
        for categories in (10, 60, 1_000)
    ]
    report = {
        "versions": versions,
        "rows": rows,
        "models": [asdict(o) for o in outcomes],
        "timings": [asdict(t) for t in timings],
    }
    write("conversion", report, markdown(outcomes, timings, versions, rows), quick=chosen.quick)


def grid(rows: int) -> tuple[Floats, Floats]:
    """Numbers with one decimal: prices, ages, ratings."""
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(rows, 10)), 1)
    return x, x[:, 0] + x[:, 1] * x[:, 2] + 0.1 * rng.normal(size=rows)


def sparse(rows: int) -> tuple[Floats, Floats]:
    x, _ = grid(rows)
    x[np.random.default_rng(1).random(x.shape) < 0.5] = 0
    return x, x[:, 0] + x[:, 1] * x[:, 2]


def smooth(rows: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 10)).astype(np.float32).astype(np.float64)
    return x, x[:, 0] + x[:, 1] * x[:, 2] + 0.1 * rng.normal(size=rows)


def timestamps(rows: int) -> tuple[Floats, Floats]:
    """Seconds since 1970 in two columns."""
    x, y = smooth(rows)
    x[:, :2] = np.floor(1.7e9 + 1e7 * x[:, :2])
    return x, y + np.sin(x[:, 0] / 5e6)


def large(rows: int) -> tuple[Floats, Floats]:
    x, y = smooth(rows)
    return x, y * 1e3 + 1e9


def towns(rows: int) -> tuple[Floats, Floats]:
    """One column of 1,500 categories."""
    x, y = smooth(rows)
    rng = np.random.default_rng(2)
    x[:, 0] = rng.integers(0, 1_500, rows)
    return x, y + rng.normal(size=1_500)[x[:, 0].astype(int)]


def positive(data: Callable[[int], tuple[Floats, Floats]]) -> Callable[[int], tuple[Floats, Floats]]:
    return lambda rows: (data(rows)[0], np.abs(data(rows)[1]) + 0.01)


def classes(count: int, data: Callable[[int], tuple[Floats, Floats]]) -> Callable[[int], tuple[Floats, Floats]]:
    def labelled(rows: int) -> tuple[Floats, Floats]:
        x, y = data(rows)
        return x, np.digitize(y, np.quantile(y, np.arange(1, count) / count)).astype(float)

    return labelled


def squared(predicted: Floats, train: lightgbm.Dataset) -> tuple[Floats, Floats]:
    return predicted - train.get_label(), np.ones_like(predicted)


MODELS = (
    Model("trained on tenths, scored on twentieths", {"objective": "regression"}, grid, scored=lambda x: x + 0.05),
    Model("timestamps as numbers", {"objective": "regression"}, timestamps),
    Model("large targets", {"objective": "regression"}, large),
    Model("2,000 trees", {"objective": "regression"}, smooth, rounds=2_000),
    Model("zero_as_missing", {"objective": "regression", "zero_as_missing": True}, sparse),
    Model("binary", {"objective": "binary"}, classes(2, smooth)),
    Model("binary, sigmoid=2", {"objective": "binary", "sigmoid": 2.0}, classes(2, smooth)),
    Model("multiclass", {"objective": "multiclass", "num_class": 4}, classes(4, smooth), rounds=30),
    Model("multiclassova", {"objective": "multiclassova", "num_class": 4}, classes(4, smooth), rounds=30),
    Model("reg_sqrt", {"objective": "regression", "reg_sqrt": True}, smooth),
    Model(
        "random forest",
        {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
        smooth,
    ),
    Model("linear_tree", {"objective": "regression", "linear_tree": True}, smooth),
    Model("poisson", {"objective": "poisson"}, positive(smooth)),
    Model("fair", {"objective": "fair"}, smooth),
    Model("mape", {"objective": "mape"}, positive(smooth)),
    Model("cross_entropy", {"objective": "cross_entropy"}, classes(2, smooth)),
    Model("cross_entropy_lambda", {"objective": "cross_entropy_lambda"}, classes(2, smooth)),
    Model("custom objective", {"objective": squared}, smooth),
    Model(
        "1,500 categories",
        {"objective": "regression", "max_cat_threshold": 1_000, "max_bin": 2_000},
        towns,
        categorical=(0,),
    ),
)


def compare(model: Model, rows: int, *, quick: bool) -> Outcome:
    x, y = model.data(rows)
    params = {**BASE, **model.params}
    data = lightgbm.Dataset(x, y, categorical_feature=list(model.categorical), params=params)
    booster = lightgbm.train(params, data, min(model.rounds, 300) if quick else model.rounds)
    x = model.scored(x)
    evidence = check_parity(booster, from_lightgbm(booster), x)  # raises where one bit differs
    reference = booster.predict(x)
    off, largest, refusal = None, None, ""
    try:
        prediction = stock_predict(stock_converter(booster, x.shape[1]), x, classifier=is_classifier(booster))
        scale = np.minimum(np.abs(reference), reference.std())
        errors = (np.abs(prediction.reshape(reference.shape) - reference) / scale).reshape(rows, -1).max(axis=1)
        off, largest = float((errors > OFF).mean()), float(errors.max())
    except Exception as error:  # whatever it raises is its refusal
        refusal = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80]}"
    return Outcome(model.name, evidence.bits_differing, evidence.max_relative_difference, off, largest, refusal)


def is_classifier(booster: lightgbm.Booster) -> bool:
    return any(f"objective={name}" in booster.model_to_string(num_iteration=1) for name in ("binary", "multiclass"))


def stock_converter(booster: lightgbm.Booster, n_features: int) -> onnx.ModelProto:
    """onnxmltools with double inputs, or with float where it takes no double (classifiers)."""
    import onnxmltools
    from onnxmltools.convert.common.data_types import DoubleTensorType, FloatTensorType

    kind = FloatTensorType if is_classifier(booster) else DoubleTensorType
    types = [("features", kind([None, n_features]))]
    return onnxmltools.convert_lightgbm(booster, initial_types=types, target_opset=15, zipmap=False)


def stock_predict(model: onnx.ModelProto, x: Floats, *, classifier: bool) -> Floats:
    outputs = runtime_session(model.SerializeToString()).run(
        None, {"features": x.astype(np.float32) if classifier else x}
    )
    if not classifier:
        return outputs[0].astype(np.float64)
    probability = outputs[1].astype(np.float64)
    return probability[:, 1] if probability.shape[1] == 2 else probability


def measure(categories: int, trees: int, leaves: int, *, quick: bool) -> Timing:
    """20 columns, 4 of them categorical; scores compared bit by bit, then timed in turns."""
    rng = np.random.default_rng(categories)
    rows = 20_000
    x = rng.normal(size=(rows, 20))
    x[:, :4] = rng.integers(0, categories, size=(rows, 4))
    effect = rng.normal(size=(4, categories))
    y = sum(effect[i][x[:, i].astype(int)] for i in range(4)) + x[:, 5] * x[:, 6] + 0.1 * rng.normal(size=rows)
    params = {**BASE, "objective": "regression", "num_leaves": leaves}
    booster = lightgbm.train(params, lightgbm.Dataset(x, y, categorical_feature=[0, 1, 2, 3]), trees)
    model = from_lightgbm(booster)
    session = runtime_session(model.SerializeToString())
    batch = x[: min(rows_a_call(model), 2_000 if quick else 5_000)]

    def ours() -> Any:
        return session.run(["raw_score"], {"features": batch})[0]

    def native() -> Any:
        return booster.predict(batch, raw_score=True, num_threads=1)

    if not np.array_equal(ours()[:, 0], native()):
        raise AssertionError("scores differ: no timing")
    engines: dict[str, Callable[[], Any]] = {"lightgbm": native, "ours": ours}
    try:
        stock = runtime_session(stock_converter(booster, 20).SerializeToString())
        engines["stock"] = lambda: stock.run(None, {"features": batch})
        engines["stock"]()
    except (Exception, RecursionError):  # refused: see the first table
        engines.pop("stock", None)
    times: dict[str, list[float]] = {name: [] for name in engines}
    repeats = max(1, 5_000 // len(batch))
    for _ in range(3 if quick else 15):
        for name, run in engines.items():
            began = time.thread_time()  # every engine computes on this thread, and others may want the core
            for _ in range(repeats):
                run()
            times[name].append((time.thread_time() - began) / len(batch) / repeats * 1e6)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["lightgbm"], strict=True))
    return Timing(categories, trees, leaves, medians["lightgbm"], medians["ours"], medians.get("stock"), ratio)


def markdown(outcomes: list[Outcome], timings: list[Timing], versions: dict[str, str], rows: int) -> str:
    measure_of_error = "relative to itself or to the standard deviation of the predictions"
    engines = ", ".join(f"{name} {number}" for name, number in versions.items())
    lines = [
        f"Share of {rows:,} rows whose prediction is off by more than {OFF:g}, {measure_of_error}.",
        f"{engines}.",
        "",
        "| model | onnxmltools: rows off | largest error | rayforest: raw scores of other bits | largest error |",
        "|---|---|---|---|---|",
    ]
    for o in outcomes:
        stock = (
            f"refused ({o.stock_refusal.split(':')[0]}) | "
            if o.stock_refusal
            else f"{o.stock_rows_off:.2%} | {o.stock_largest_error:.1g}"
        )
        lines.append(f"| {o.model} | {stock} | {o.ours_bits_off} | {o.ours_max_relative:.1g} |")
    lines += [
        "",
        "Microseconds of CPU time a row on one thread; 20 columns, 4 of them categorical; medians of rounds in turns.",
        "",
        "| categories | trees x leaves | LightGBM | rayforest | ratio | onnxmltools |",
        "|---|---|---|---|---|---|",
    ]
    for t in timings:
        stock = "refused" if t.stock_us is None else f"{t.stock_us:.1f}"
        times = f"{t.lightgbm_us:.1f} | {t.ours_us:.1f} | {t.ours_to_lightgbm:.2f} | {stock}"
        lines.append(f"| {t.categories:,} | {t.trees} x {t.leaves} | {times} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
