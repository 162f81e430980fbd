"""Random tables, and random LightGBM models of every kind trained on them. A seed gives the same model again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OBJECTIVES = (
    *("regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie"),
    *("binary", "multiclass", "multiclassova", "cross_entropy", "cross_entropy_lambda", "lambdarank", "rank_xendcg"),
    *("custom", "custom_multiclass"),
)
BOOSTING = ("gbdt", "dart", "rf", "goss")
COMBINATIONS = len(OBJECTIVES) * len(BOOSTING)
"""Seeds in a row that train every objective with every kind of boosting."""
MISSING = ({}, {"zero_as_missing": True}, {"use_missing": False})
WIDTHS = (2, 5, 12, 31, 60, 300, 3_000, 12_000)


@dataclass(frozen=True, eq=False)
class Case:
    """A trained model and rows to score."""

    booster: lightgbm.Booster
    rows: Floats
    num_iteration: int | None
    kind: str
    """In words, for a failure's message."""


@dataclass
class _Table:
    x: Floats
    signal: Floats
    """[rows] depends on every column by rank, whatever its scale."""
    categorical: list[int] = field(default_factory=list)


def random_case(seed: int) -> Case:
    """Train the seed's model: the seed counts through objectives and boosting, the rest is drawn."""
    rng = np.random.default_rng(seed)
    objective = OBJECTIVES[seed % len(OBJECTIVES)]
    boosting = BOOSTING[seed // len(OBJECTIVES) % len(BOOSTING)]
    missing = MISSING[rng.integers(len(MISSING))]
    custom = objective in _CUSTOM  # LightGBM takes none with rf, and none where no feature can be split
    boosting = "gbdt" if custom and boosting == "rf" else boosting
    table = _random_table(rng, columns=[_sparse] if custom else [])
    linear = not missing and objective != "regression_l1" and rng.random() < 0.4
    params = _random_params(rng, objective, boosting, table, linear=linear) | missing
    if custom:
        params["min_data_in_leaf"] = 5
    label = _label(rng, objective, table.signal, params)

    def dataset(label: Floats = label, **changed: Any) -> lightgbm.Dataset:
        shared = {
            k: params[k]
            for k in ("zero_as_missing", "use_missing", "linear_tree", "max_bin", "min_data_in_bin")
            if k in params
        }
        group = _groups(len(label)) if objective in {"lambdarank", "rank_xendcg"} else None
        return lightgbm.Dataset(
            table.x,
            label,
            group=group,
            categorical_feature=table.categorical,
            params={"verbose": -1} | shared | changed,
            free_raw_data=False,
        )

    rounds = int(rng.integers(1, 13))
    train = dataset()
    extra: dict[str, Any] = {}
    if boosting != "dart" and objective != "custom_multiclass" and rng.random() < 0.3:
        unlike = dataset(rng.permutation(label)).set_reference(train)  # cannot be learned: stops early
        extra = {"valid_sets": [unlike], "callbacks": [lightgbm.early_stopping(1, verbose=False)]}
        extra["keep_training_booster"] = bool(rng.random() < 0.5)  # otherwise LightGBM drops what follows the best
    booster = lightgbm.train(params, train, rounds, **extra)
    continued = not linear and boosting in {"gbdt", "goss"} and rng.random() < 0.2
    if continued:  # on data with other rules for missing values, so that one feature has both in one model
        other = {"zero_as_missing": False, "use_missing": True} | MISSING[rng.integers(len(MISSING))]
        booster = lightgbm.train(params | other, dataset(**other), 3, init_model=booster)
    if not linear and rng.random() < 0.3:
        _make_leaves_equal(rng, booster)
    num_iteration = None if rng.random() < 0.6 else int(rng.integers(-1, rounds + 3))
    words = (objective, boosting, *missing, *(["linear_tree"] if linear else []), *(["continued"] if continued else []))
    return Case(booster, _rows_to_score(rng, table), num_iteration, f"seed {seed}: {', '.join(words)}")


_Column = Callable[[np.random.Generator, int], Floats]


def _random_table(rng: np.random.Generator, columns: list[_Column]) -> _Table:
    rows = int(rng.choice([60, 200, 600]))
    kinds = columns + [_NUMERICAL[i] for i in rng.integers(len(_NUMERICAL), size=rng.integers(1, 7))]
    values = [kind(rng, rows) for kind in kinds]
    first_code = len(values)
    for _ in range(rng.integers(0, 3)):
        width = int(rng.choice(WIDTHS))
        values.append(np.floor(width * rng.random(rows) ** rng.choice([1, 3])))
    x = np.stack(values, axis=1)
    signal = np.zeros(rows)
    for column in values[:first_code]:
        signal += rng.normal() * np.sin(rng.uniform(1, 9) * np.argsort(np.argsort(column)) / rows)
    for column in values[first_code:]:
        signal += rng.normal(size=12_000)[column.astype(int)]
    if rng.random() < 0.6:
        x[rng.random(x.shape) < rng.choice([0.02, 0.3])] = np.nan
    return _Table(x, signal, list(range(first_code, len(values))))


def _scaled(rng: np.random.Generator, rows: int) -> Floats:
    return rng.normal(size=rows) * 10.0 ** rng.uniform(-40, 40)


def _near_zero(rng: np.random.Generator, rows: int) -> Floats:
    return rng.uniform(-3e-35, 3e-35, rows) * rng.choice([0, 1, 1, 1e5], rows)


def _sparse(rng: np.random.Generator, rows: int) -> Floats:
    return rng.normal(size=rows) * (rng.random(rows) < 0.3)


_NUMERICAL: tuple[_Column, ...] = (
    _scaled,
    _near_zero,
    _sparse,
    lambda rng, rows: rng.integers(-20, 20, rows) / 10,
    lambda rng, rows: rng.integers(0, 4, rows).astype(float),
    lambda rng, rows: rng.integers(1_600_000_000_000_000, 1_700_000_000_000_000, rows).astype(float),
    lambda rng, rows: rng.normal(size=rows) * 1e300,
    lambda rng, rows: rng.normal(size=rows) * 1e-310,
    lambda rng, rows: np.full(rows, rng.normal()),
)


def _random_params(
    rng: np.random.Generator, objective: str, boosting: str, table: _Table, *, linear: bool
) -> dict[str, Any]:
    params: dict[str, Any] = {
        "objective": _CUSTOM.get(objective, objective),
        "verbose": -1,
        "num_threads": 1,
        "seed": int(rng.integers(1_000)),
        "num_leaves": int(rng.integers(2, 32)),
        "min_data_in_leaf": int(rng.choice([1, 5, 20])) if rng.random() < 0.95 else 1_000,
        "min_data_per_group": int(rng.choice([1, 10])),
        "cat_smooth": float(rng.choice([0.1, 10])),
        "cat_l2": float(rng.choice([0.1, 10])),
        "max_cat_threshold": int(rng.choice([2, 32, 2_000])),
        "max_cat_to_onehot": int(rng.choice([1, 4, 50])),
        "learning_rate": float(rng.choice([0.03, 0.3, 1.5])),
        "max_bin": int(rng.choice([3, 63, 255, 1_000])),
        "min_data_in_bin": int(rng.choice([1, 3])),
        "feature_fraction": float(rng.choice([0.5, 1])),
        "extra_trees": bool(rng.random() < 0.2),
        "path_smooth": float(rng.choice([0, 1])),
        "linear_tree": linear,
        "metric": "l2" if objective.startswith("custom") else "",
    }
    if objective in {"multiclass", "multiclassova", "custom_multiclass"}:
        params["num_class"] = int(rng.integers(3 if objective == "custom_multiclass" else 2, 6))
    if objective == "custom_multiclass":
        params["metric"] = "None"
    if objective in {"binary", "multiclassova"}:
        params["sigmoid"] = float(rng.choice([1, 0.3, 2.7]))
    if objective == "binary":
        params |= [{}, {"is_unbalance": True}, {"scale_pos_weight": 3.5}][rng.integers(3)]
    if objective in {"regression", "regression_l1", "quantile", "mape"}:
        params["reg_sqrt"] = bool(rng.random() < 0.4)
    if boosting == "goss":
        params |= {"data_sample_strategy": "goss", "top_rate": 0.3, "other_rate": 0.2}
    else:
        params |= {"boosting": boosting, "bagging_fraction": 0.7, "bagging_freq": 1}
    if (
        boosting == "gbdt"
        and objective not in {"regression_l1", "quantile", "mape"}
        and not linear
        and rng.random() < 0.2
    ):
        signs = rng.integers(-1, 2, table.x.shape[1])
        signs[table.categorical] = 0
        params["monotone_constraints"] = signs.tolist()
    return params


def _label(rng: np.random.Generator, objective: str, signal: Floats, params: dict[str, Any]) -> Floats:
    noisy = signal + 0.1 * rng.normal(size=len(signal))
    if objective == "poisson":
        return np.floor(np.exp(np.clip(noisy - noisy.mean(), -3, 5)))
    if objective in {"gamma", "tweedie"}:
        return np.exp(np.clip(noisy, -20, 20)) + 1e-6
    if objective == "binary":
        return (noisy > np.median(noisy)).astype(float)
    if objective.startswith("cross_entropy"):
        return 1 / (1 + np.exp(-noisy))
    if objective in {"lambdarank", "rank_xendcg"}:
        return np.clip(np.floor(noisy + 2), 0, 4)
    if "num_class" in params:
        rank = np.argsort(np.argsort(noisy))
        return np.floor(rank * params["num_class"] / len(noisy))
    return noisy * 10.0 ** rng.uniform(-20, 20) + rng.choice([0, 1e6])


def _groups(rows: int) -> list[int]:
    return [rows // 3, rows // 3, rows - 2 * (rows // 3)]


def _squared_error(predicted: Floats, train: lightgbm.Dataset) -> tuple[Floats, Floats]:
    label = train.get_label()
    if predicted.ndim == 2:
        label = (label[:, None] == np.arange(predicted.shape[1])).astype(float)
    return predicted - label, np.ones_like(predicted)


_CUSTOM = {"custom": _squared_error, "custom_multiclass": _squared_error}


def _make_leaves_equal(rng: np.random.Generator, booster: lightgbm.Booster) -> None:
    """Few values in many leaves: onnxruntime merges splits on one column whose leaves are equal."""
    for tree, info in enumerate(booster.dump_model()["tree_info"]):
        for leaf in range(info["num_leaves"]):
            booster.set_leaf_output(tree, leaf, float(rng.choice([0.0, -0.0, 0.1, 0.7])))


def _rows_to_score(rng: np.random.Generator, table: _Table) -> Floats:
    """Rows of the table, and rows with codes that training has not seen."""
    rows = table.x[rng.integers(len(table.x), size=60)]
    for column in table.categorical:
        codes = rng.choice([-1.0, -0.5, 0.5, 7.999, 1e4, 12_001, 2.0**31, 1e18, np.nan], len(rows))
        rows[:, column] = np.where(rng.random(len(rows)) < 0.2, codes, rows[:, column])
    return rows
