"""The search space: LightGBM parameters as Optuna distributions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from rayforest.errors import ConfigError
from rayforest.tuning.parameters import LISTS, OF_THE_BINS, canonical_parameters

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
_BAGGED_FOREST = FloatDistribution(0.5, 0.95)
"""bagging_fraction of a random forest, which needs rows left out."""

_ALWAYS = {"bagging_freq": 1}
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


@dataclass(frozen=True)
class Space:
    """What trials have in common, and in what they differ; by LightGBM's main names."""

    distributions: Mapping[str, BaseDistribution]
    fixed: Mapping[str, Any]
    """In each trial."""
    shared: Mapping[str, Any]
    """In the binned dataset."""

    @property
    def first_trial(self) -> dict[str, Any]:
        """Where the search begins: LightGBM's defaults, or the nearest values that the space allows."""
        return first_trial(self.distributions)

    def corners(self) -> Iterator[dict[str, Any]]:
        """The lowest values of all parameters together, the highest, and each choice beside both."""
        ends = [{name: end(d) for name, d in self.distributions.items()} for end in (_lowest, _highest)]
        for corner in ends:
            yield corner
            for name, distribution in self.distributions.items():
                if isinstance(distribution, CategoricalDistribution):
                    for choice in distribution.choices[1:]:
                        yield corner | {name: choice}


def search_space(given: Mapping[str, Any], *, categories: bool) -> Space:
    """What to search, what is fixed in each trial, and what is fixed in the shared dataset.

    Args:
        given: `[tune.space]`: a value fixes a parameter, [low, high] searches between the two (on a log scale where
            high is ten times low or more), { choices = [...] } picks one.
        categories: whether there are categorical features.

    Raises:
        ConfigError: a range is no range, a name is not LightGBM's or not the user's to set, or a parameter that cannot
            vary between trials is searched.
    """
    distributions = dict(_DEFAULT) | (dict(_WITH_CATEGORIES) if categories else {})
    fixed: dict[str, Any] = dict(_ALWAYS)
    shared: dict[str, Any] = {}
    parameters = canonical_parameters(given)
    for name, (key, value) in parameters.items():
        where = f"tune.space.{key}"
        distributions.pop(name, None)
        distribution = None if name in LISTS and isinstance(value, list) else _distribution(where, value)
        if distribution is None:
            (shared if name in OF_THE_BINS else fixed)[name] = value
        elif name in OF_THE_BINS:
            raise ConfigError(
                f"{where} cannot be searched: all trials share one binned dataset",
                expected="one value",
                found="a range",
                next_step=f"fix it, for example {name} = 255" if name == "max_bin" else "fix it",
            )
        else:
            distributions[name] = distribution
    _check_rounds(fixed, distributions, parameters)
    _fit_sampling(fixed, distributions, parameters)
    return Space(distributions, fixed, shared)


def first_trial(distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """LightGBM's defaults, or the nearest values that the distributions allow."""
    first: dict[str, Any] = {}
    for name, distribution in distributions.items():
        if name in _DEFAULTS and isinstance(distribution, IntDistribution | FloatDistribution):
            first[name] = type(distribution.low)(min(max(_DEFAULTS[name], distribution.low), distribution.high))
    return first


def _check_rounds(
    fixed: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    parameters: Mapping[str, tuple[str, Any]],
) -> None:
    """num_iterations counts our own loop, so LightGBM does not check it."""
    name = "num_iterations"
    values = [fixed[name]] if name in fixed else _values(distributions[name]) if name in distributions else []
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(
                f"tune.space.{parameters[name][0]} is not a number of boosting rounds",
                expected="a whole number of 1 or more",
                found=repr(value),
                next_step="correct it, or leave it out",
            )


def _fit_sampling(
    fixed: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    parameters: Mapping[str, tuple[str, Any]],
) -> None:
    """Keep what rayforest itself searches to what the user's way of boosting allows."""
    if "goss" in (fixed.get("boosting"), fixed.get("data_sample_strategy")):
        if "bagging_fraction" not in parameters:
            distributions.pop("bagging_fraction", None)
        if "bagging_freq" not in parameters:
            fixed.pop("bagging_freq", None)
    elif fixed.get("boosting") in ("rf", "random_forest") and "bagging_fraction" not in parameters:
        distributions["bagging_fraction"] = _BAGGED_FOREST


def _distribution(where: str, value: Any) -> BaseDistribution | None:
    if isinstance(value, Mapping):
        choices = value.get("choices")
        plain = isinstance(choices, list) and all(isinstance(c, bool | int | float | str) for c in choices)
        if set(value) != {"choices"} or not choices or not plain:
            raise ConfigError(
                f"{where} is not understood",
                expected="a value, [low, high], or { choices = [...] }",
                next_step="write it in one of these ways; choices are one or more numbers, texts or booleans",
            )
        for choice in choices:
            _must_be_finite(where, choice)
        return CategoricalDistribution(choices)
    if not isinstance(value, list):
        _must_be_finite(where, value)
        return None
    numbers = [v for v in value if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(value) != 2 or len(numbers) != 2 or not value[0] < value[1]:
        raise ConfigError(
            f"{where} is not a range",
            expected="[low, high] with low < high",
            next_step="for a list of options write { choices = [...] }",
        )
    low, high = value
    for end in value:
        _must_be_finite(where, end)
    log = low > 0 and high / low >= 10
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _must_be_finite(where: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(
            f"{where} is no finite number",
            expected="a finite number",
            found=repr(value),
            next_step="correct it, or leave it out",
        )


def _values(distribution: BaseDistribution) -> list[Any]:
    """The values of a distribution that are worth trying out: its ends, or all of its choices."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [_lowest(distribution), _highest(distribution)]


def _lowest(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, IntDistribution | FloatDistribution)  # noqa: S101  there are no others here
    return distribution.low


def _highest(distribution: BaseDistribution) -> Any:
    return distribution.high if isinstance(distribution, IntDistribution | FloatDistribution) else _lowest(distribution)


def tried_values(space: Space) -> Iterator[tuple[str, Any]]:
    """Each parameter with each value of it that is worth trying out alone."""
    for values in (space.shared, space.fixed):
        yield from values.items()
    for name, distribution in space.distributions.items():
        for value in _values(distribution):
            yield name, value
