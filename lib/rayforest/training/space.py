"""The search space: LightGBM parameters as Optuna distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from rayforest.errors import ConfigError, did_you_mean

_DEFAULT: dict[str, BaseDistribution] = {
    "num_leaves": IntDistribution(7, 255, log=True),
    "learning_rate": FloatDistribution(0.02, 0.2, log=True),
    "min_data_in_leaf": IntDistribution(5, 200, log=True),
    "feature_fraction": FloatDistribution(0.5, 1.0),
    "bagging_fraction": FloatDistribution(0.5, 1.0),
    "lambda_l1": FloatDistribution(1e-8, 10.0, log=True),
    "lambda_l2": FloatDistribution(1e-8, 10.0, log=True),
}
_WITH_CATEGORIES: dict[str, BaseDistribution] = {
    "cat_smooth": FloatDistribution(1.0, 100.0, log=True),
    "cat_l2": FloatDistribution(0.1, 100.0, log=True),
}

ALWAYS = {"bagging_freq": 1}
_DEFAULTS: dict[str, Any] = {
    "num_leaves": 31,
    "learning_rate": 0.1,
    "min_data_in_leaf": 20,
    "feature_fraction": 1.0,
    "bagging_fraction": 1.0,
    "lambda_l1": 1e-8,
    "lambda_l2": 1e-8,
    "cat_smooth": 10.0,
    "cat_l2": 10.0,
}
"""About LightGBM's own."""

_BIN_PARAMS = ("max_bin", "min_data_in_bin", "linear_tree", "bin_construct_sample_cnt", "max_bin_by_feature")
_OURS = (
    "objective",
    "metric",
    "num_class",
    "seed",
    "num_threads",
    "deterministic",
    "force_col_wise",
    "force_row_wise",
    "early_stopping_round",
    "categorical_feature",
)


def search_space(
    given: Mapping[str, Any], *, categories: bool
) -> tuple[dict[str, BaseDistribution], dict[str, Any], dict[str, Any]]:
    """What to search, what is fixed in each trial, and what is fixed in the shared dataset.

    Args:
        given: `[tune.space]`: a value fixes a parameter, [low, high] searches between the two (on a log scale where
            high is ten times low or more), { choices = [...] } picks one.
        categories: whether there are categorical features.

    Raises:
        ConfigError: a range is no range, a name is not LightGBM's, or a parameter that cannot vary between trials is
            searched.
    """
    distributions = dict(_DEFAULT) | (dict(_WITH_CATEGORIES) if categories else {})
    fixed: dict[str, Any] = dict(ALWAYS)
    shared: dict[str, Any] = {}
    names = _parameter_names()
    for key, value in given.items():
        where = f"tune.space.{key}"
        if key not in names:  # LightGBM itself passes over what it does not know
            raise ConfigError(f"{where} is no parameter of LightGBM", next_step=did_you_mean(key, names))
        name = names[key]
        if name in _OURS:
            raise ConfigError(f"{where}: rayforest sets this parameter itself", next_step="leave it out")
        distributions.pop(name, None)
        distribution = _distribution(where, value)
        if distribution is None:
            (shared if name in _BIN_PARAMS else fixed)[name] = value
        elif name in _BIN_PARAMS:
            raise ConfigError(
                f"{where} cannot be searched: all trials share one binned dataset",
                expected="one value",
                found="a range",
                next_step=f"fix it, for example {name} = 255",
            )
        else:
            distributions[name] = distribution
    return distributions, fixed, shared


def _parameter_names() -> dict[str, str]:
    """Each name that LightGBM knows, aliases included, and the parameter that it stands for."""
    import lightgbm as lgb

    aliases: dict[str, list[str]] = lgb.basic._ConfigAliases._get_all_param_aliases()
    return {alias: name for name, known in aliases.items() for alias in (name, *known)}


def first_trial(distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Where the search begins: LightGBM's defaults, or the nearest values that the space allows."""
    first: dict[str, Any] = {}
    for name, distribution in distributions.items():
        if name in _DEFAULTS and isinstance(distribution, IntDistribution | FloatDistribution):
            first[name] = type(distribution.low)(min(max(_DEFAULTS[name], distribution.low), distribution.high))
    return first


def _distribution(where: str, value: Any) -> BaseDistribution | None:
    if isinstance(value, Mapping):
        choices = value.get("choices")
        if set(value) != {"choices"} or not isinstance(choices, list) or not choices:
            raise ConfigError(f"{where} is not understood", expected="a value, [low, high], or { choices = [...] }")
        return CategoricalDistribution(choices)
    if not isinstance(value, list):
        return None
    numbers = [v for v in value if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(value) != 2 or len(numbers) != 2 or not value[0] < value[1]:
        raise ConfigError(
            f"{where} is not a range",
            expected="[low, high] with low < high",
            next_step="for a list of options write { choices = [...] }",
        )
    low, high = value
    log = low > 0 and high / low >= 10
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)
