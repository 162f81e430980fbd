"""LightGBM's parameters: all names of each, those that rayforest sets itself, and those that mean nothing here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from rayforest.errors import ConfigError
from rayforest.project.sections import Project, TuneSection

OF_THE_BINS = (
    "max_bin",
    "min_data_in_bin",
    "linear_tree",
    "bin_construct_sample_cnt",
    "max_bin_by_feature",
    "data_random_seed",
    "use_missing",
    "zero_as_missing",
    "is_enable_sparse",
    "enable_bundle",
    "forcedbins_filename",
)
"""They shape the binned dataset, which all trials share."""

LISTS = (
    "monotone_constraints",
    "interaction_constraints",
    "max_bin_by_feature",
    "feature_contri",
    "cegb_penalty_feature_lazy",
    "cegb_penalty_feature_coupled",
)
"""Their value is a list, so that one in the project file is no range."""

_SET_BY_RAYFOREST = {
    "objective": "the target and tune.metric decide it",
    "metric": "set tune.metric",
    "num_class": "the labels of the training rows decide it",
    "seed": "set project.seed",
    "num_threads": "set run.workers",
    "categorical_feature": "set features.categorical",
    "early_stopping_round": "boosting stops after 50 rounds without a better score",
    "early_stopping_min_delta": "boosting stops after 50 rounds without a better score",
    "first_metric_only": "there is one metric",
    "multi_error_top_k": "accuracy is that of the most likely label",
    "auc_mu_weights": "all mistakes weigh the same",
    "deterministic": "the same inputs give the same trees",
    "force_col_wise": "the same inputs give the same trees",
    "force_row_wise": "the same inputs give the same trees",
    "feature_pre_filter": "min_data_in_leaf may vary between trials",
    "verbosity": "what matters is said by rayforest",
    "device_type": "trees are grown on CPUs",
    "tree_learner": "set tune.nodes",
    "num_machines": "set tune.nodes",
    "machines": "rayforest finds the nodes and their ports",
    "machine_list_filename": "rayforest finds the nodes and their ports",
    "local_listen_port": "rayforest finds the nodes and their ports",
    "time_out": "rayforest finds the nodes and their ports",
    "pre_partition": "rayforest finds the nodes and their ports",
    "top_k": "nodes add up all of their histograms",
}
"""With what to do instead."""

_WITHOUT_EFFECT = frozenset(
    """
    alpha bagging_by_query config convert_model convert_model_language data eval_at fair_c gpu_device_id
    gpu_device_id_list gpu_platform_id gpu_use_dp group_column header ignore_column input_model
    is_provide_training_metric label_column label_gain lambdarank_norm lambdarank_position_bias_regularization
    lambdarank_truncation_level metric_freq num_gpu num_iteration_predict objective_seed output_model output_result
    parser_config_file poisson_max_delta_step precise_float_parser pred_early_stop pred_early_stop_freq
    pred_early_stop_margin predict_contrib predict_disable_shape_check predict_leaf_index predict_raw_score
    refit_decay_rate save_binary snapshot_freq start_iteration_predict task tweedie_variance_power two_round valid
    weight_column
    """.split()  # noqa: SIM905  fifty lines would say no more
)
"""Of LightGBM's own program, of predicting, or of objectives that rayforest does not use."""


def canonical_parameters(given: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """`[tune.space]` by LightGBM's main name of each parameter: the key as it was written, and the value.

    Raises:
        ConfigError: a name is not LightGBM's, two names are of one parameter, or it is not the user's to set.
    """
    names = _names()
    found: dict[str, tuple[str, Any]] = {}
    for key, value in given.items():
        where = f"tune.space.{key}"
        if key not in names:  # LightGBM itself passes over what it does not know
            raise ConfigError(f"{where} is no parameter of LightGBM", next_step=_nearest(key, names))
        name = names[key]
        stands_for = "" if name == key else f" ({key} is another name of {name})"
        if name in _SET_BY_RAYFOREST:
            raise ConfigError(
                f"{where}: rayforest sets this parameter itself{stands_for}",
                next_step=f"leave it out; {_SET_BY_RAYFOREST[name]}",
            )
        if name in _WITHOUT_EFFECT:
            raise ConfigError(f"{where} has no effect on a trial{stands_for}", next_step="leave it out")
        if name in found:
            raise ConfigError(
                f"tune.space.{found[name][0]} and {where} are two names of one parameter, {name}",
                expected="each parameter once",
                next_step=f"keep one of them, for example {name}",
            )
        found[name] = (key, value)
    return found


def tune_section(project: Project) -> TuneSection:
    """`[tune]`, but without a parameter of the file that --set gives by another of its names."""
    space = project.tune.space
    overriding = {key[2] for key in project.overridden if key[:2] == ("tune", "space") and len(key) > 2}
    if not overriding:
        return project.tune
    names = _names()
    given_anew = {names.get(key, key) for key in overriding}
    kept = {key: v for key, v in space.items() if key in overriding or names.get(key, key) not in given_anew}
    return project.tune.model_copy(update={"space": kept})


def _names() -> dict[str, str]:
    """Each name that LightGBM knows, aliases included, and the parameter that it stands for."""
    import lightgbm as lgb

    aliases: dict[str, list[str]] = lgb.basic._ConfigAliases._get_all_param_aliases()
    return {alias: name for name, known in aliases.items() for alias in (name, *known)}


def _nearest(key: str, names: Mapping[str, str]) -> str:
    """The main name of the parameter that is spelled most alike."""
    free = [alias for alias, name in names.items() if name not in _SET_BY_RAYFOREST and name not in _WITHOUT_EFFECT]
    near = difflib.get_close_matches(key.lower(), sorted(free), n=1, cutoff=0.6)
    if near:
        return f"did you mean {names[near[0]]!r}?"
    return "leave it out, or see LightGBM's list of parameters (num_leaves, learning_rate, ...)"
