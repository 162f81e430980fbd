"""Before any trial: LightGBM is asked for its opinion of every parameter, on a handful of made-up rows.

It checks values when it makes a booster, some of them only in the first round. So each value is tried alone, which
names the one that is refused, and then the corners of the space together. It takes milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import lightgbm as lgb
import numpy as np

from rayforest.errors import ConfigError
from rayforest.metrics.problem import ProblemKind
from rayforest.process_settings import LIGHTGBM_PROOF_THREADS
from rayforest.tuning.quiet import quiet_lightgbm, silence
from rayforest.tuning.space import Space, tried_values
from rayforest.tuning.trial import SHARED_PARAMS, objective_params

_ROWS = 48
_CLASSES = 3
_SHOWN_CHARACTERS = 200


def refuse_bad_values(space: Space, kind: ProblemKind, features: int) -> None:
    """Refuse what LightGBM would refuse in a trial.

    Args:
        space: of the search.
        kind: of the problem.
        features: how many there are.

    Raises:
        ConfigError: LightGBM refuses a value alone, or some of them together.
    """
    base = SHARED_PARAMS | {"seed": 0, "num_threads": LIGHTGBM_PROOF_THREADS} | objective_params(kind, _CLASSES)
    quiet_lightgbm()
    with silence():
        for name, value in tried_values(space):
            shared = {name: value} if name in space.shared else {}
            own = {} if shared else {name: value}
            if refusal := _refusal(base, shared, own, kind, features):
                raise ConfigError(
                    f"LightGBM refuses a trial with {name} = {_shown(value)}",
                    found=refusal,
                    next_step=f"correct [tune.space]: {name}",
                )
        for values in (space.first_trial, *space.corners()):
            if refusal := _refusal(base, dict(space.shared), dict(space.fixed) | values, kind, features):
                together = ", ".join(f"{k} = {_shown(v)}" for k, v in (dict(space.fixed) | values).items())
                raise ConfigError(
                    "LightGBM refuses a trial with values that it takes one by one",
                    expected="values of which every combination can be trained",
                    found=f"{refusal}; with {together}",
                    next_step="correct [tune.space]: fix one of the parameters that do not go together",
                )


def _refusal(
    base: Mapping[str, Any], shared: Mapping[str, Any], own: Mapping[str, Any], kind: ProblemKind, features: int
) -> str:
    """What LightGBM says against these parameters; the empty text if nothing."""
    if "bagging_fraction" in own and "boosting" not in own:  # a fraction alone is tried as it will be used
        own = {"bagging_freq": 1, **own}
    if own.get("boosting") in ("rf", "random_forest") and "bagging_fraction" not in own:
        own = {"bagging_freq": 1, "bagging_fraction": 0.7, **own}
    params = {k: v for k, v in {**base, **shared, **own}.items() if k != "num_iterations"}
    rng = np.random.default_rng(0)
    labels = np.arange(_ROWS) % (_CLASSES if kind == "multiclass" else 2)
    try:
        dataset = lgb.Dataset(rng.random((_ROWS, features)), labels, params={**base, **shared}).construct()
        lgb.Booster(params, dataset).update()
    except (lgb.basic.LightGBMError, ValueError, TypeError) as error:
        return _readable(str(error))
    return ""


def _readable(message: str) -> str:
    """LightGBM's text without its own source file."""
    text = re.sub(r"\s*at \S+, line \d+\s*\.?\s*$", "", message.strip())
    text = re.sub(r"^Check failed: ", "expected ", text).replace("config->", "").replace("config_->", "")
    return text[:_SHOWN_CHARACTERS]


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
