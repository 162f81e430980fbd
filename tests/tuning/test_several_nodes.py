"""tune on several nodes: about the model of one, the same bytes whatever dies, and rows that fit no node."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from small_projects import Ran, orders, tuned, write_orders, write_project

import rayforest
from rayforest.engine.executors import Executor, Gang, InProcess, Node, RayExecutor
from rayforest.errors import ConfigError, InputError
from rayforest.stages.stage import Context
from rayforest.tuning import admission, group
from rayforest.tuning.admission import Admission, Needs, admit
from rayforest.tuning.trial import Trial, TrialRecord
from rayforest.tuning.tune import tune


def project_at(ran: Ran, root: Path, *settings: str) -> rayforest.Project:
    """The prepared rows of a project that ran, to be tuned anew."""
    shutil.copytree(ran.folder / "out" / "prepared", root / "prepared")
    return rayforest.load_project(ran.folder / "project.toml", [f'project.root="{root}"', *settings])


def first_tree(model: str, key: str) -> list[float]:
    (values,) = re.findall(rf"^{key}=(.*)$", model.partition("Tree=1")[0], flags=re.MULTILINE)
    return [float(value) for value in values.split()]


ONE_TRIAL_TWICE = [
    "tune.nodes=2",
    "tune.space.num_leaves=12",
    "tune.space.learning_rate=0.1",
    *(f"tune.space.{name}=1.0" for name in ("feature_fraction", "bagging_fraction", "cat_smooth")),
    *(f"tune.space.{name}=0.01" for name in ("lambda_l1", "lambda_l2", "cat_l2")),
]
"""A space of one point, so that both trials of the search are the same."""


@pytest.mark.ray
def test_two_nodes_come_to_about_the_model_of_one_and_to_the_same_bytes_where_one_dies(
    ran: Ran,
    two_nodes: RayExecutor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train, score, pids, rounds = group.TrainingGroup._train, group._score, list[int](), list[float]()

    def watched(self: group.TrainingGroup, gang: Gang, trial: Trial) -> TrialRecord:
        pids[:] = gang.call(lambda _: os.getpid())
        return train(self, gang, trial)

    def killing(*arguments: Any) -> float:
        rounds.append(score(*arguments))
        if len(rounds) == 12 + 5:  # in the middle of the second trial
            os.kill(pids[1], signal.SIGKILL)
        return rounds[-1]

    monkeypatch.setattr(group.TrainingGroup, "_train", watched)
    monkeypatch.setattr(group, "_score", killing)
    two = project_at(ran, tmp_path / "two", *ONE_TRIAL_TWICE)
    result = tune(Context(two, executor=two_nodes))
    (told,) = [record.getMessage() for record in caplog.records if record.name == "rayforest.tuning"]
    assert "trial 1: a node was lost in attempt 1 of 4" in told
    undisturbed, disturbed = (json.loads(path.read_text()) for path in sorted(tmp_path.glob("two/tuned/*/trials/*")))
    assert undisturbed["params"] == disturbed["params"]
    assert undisturbed["model"] == disturbed["model"]
    assert undisturbed["score"] == disturbed["score"]
    assert "127.0.0.1" not in undisturbed["model"]

    one = project_at(ran, tmp_path / "one", *ONE_TRIAL_TWICE, "tune.nodes=1", "tune.trials=1")
    alone = rayforest.tune(one)
    # The same bins, and at first the same gradients: what differs is the order in which they are added.
    for key in ("split_feature", "threshold", "leaf_value"):
        here, there = (first_tree(tuned(project)[0].model_to_string(), key) for project in (two, one))
        assert here == pytest.approx(there, rel=1e-9)
    # 179 test rows, of which an AUC of 0.9 has a standard error of 0.02.
    assert result.metrics["auc"] == pytest.approx(alone.metrics["auc"], abs=0.02)
    rayforest.export(two)  # which refuses a model that others would score to other bits


def needs(**changes: Any) -> Needs:
    """About 34 GB on one node."""
    facts = {"train_rows": 300_000_000, "valid_rows": 0, "features": 60, "classes": 1}
    return Needs(**{**facts, "shard_rows": 100_000, "leaves": 31, "bins": 255} | changes)


class OfNodes(InProcess):
    """Threads that say that they are a cluster."""

    def __init__(self, *memory_gb: float) -> None:
        super().__init__(1)
        self.memory = memory_gb

    def nodes(self) -> list[Node]:
        return [Node(4, int(gb * 1e9)) for gb in self.memory]


@pytest.mark.parametrize(
    ("memory", "nodes"),
    [((8, 64), 1), ((20, 20, 20), 2), ((15, 64, 4, 15), 1), ((15, 15, 15), 3), ((20, 2, 20), 2), ((), 1)],
)
def test_as_few_nodes_train_as_have_the_memory(memory: tuple[float, ...], nodes: int) -> None:
    found = admit(needs(), "auto", lambda: OfNodes(*memory), 1)
    assert found.nodes == nodes
    assert found.memory_bytes == (needs().bytes_on(nodes) if memory else 0)


def test_rows_that_fit_no_node_are_refused_with_both_numbers_unless_the_project_says_so() -> None:
    with pytest.raises(ConfigError) as refused:
        admit(needs(), "auto", lambda: OfNodes(8, 8), 1)
    alone, each = (f"{needs().bytes_on(n) / 1e9:,.1f} GB" for n in (1, 2))
    assert refused.value.expected == f"{alone} on one node, or {each} on each of 2"
    assert refused.value.found == "8.0 GB and 8.0 GB of memory"
    assert "tune.nodes = 1" in refused.value.next_step
    assert admit(needs(), 1, lambda: OfNodes(8, 8), 1) == Admission(1)
    assert admit(needs(), 7, lambda: OfNodes(8, 8), 1) == Admission(7)


def test_what_fits_any_node_asks_nothing_of_the_cluster() -> None:
    def none() -> Executor:
        raise AssertionError("asked for an executor")

    assert admit(needs(train_rows=100_000), "auto", none, 2) == Admission()


def test_a_search_beyond_this_machine_is_refused_before_it_begins(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "PROCESS_BYTES", 1 << 50)
    project = project_at(ran, tmp_path)
    with pytest.raises(ConfigError, match="the training rows need more memory than there is"):
        rayforest.tune(project)
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    ("setting", "refused"),
    [
        ("run.retries=1", "the in-process executor cannot work on 2 nodes at once"),
        ("tune.space.linear_tree=true", "tune.space.linear_tree is for a model that is trained on one node"),
        ('tune.space.monotone_constraints_method="advanced"', "monotone_constraints_method is for a model"),
        ('tune.metric="auc"', "auc of several classes is for a model"),
    ],
)
def test_what_one_node_alone_can_do_is_refused_for_several(tmp_path: Path, setting: str, refused: str) -> None:
    write_orders(tmp_path, orders(300), files=2)
    settings = ["tune.nodes=2", setting] + (['data.target="grade"'] if "auc" in setting else [])
    project = rayforest.load_project(write_project(tmp_path), settings)
    rayforest.prepare(project)
    with pytest.raises(ConfigError, match=refused):
        rayforest.tune(project)


def test_a_node_without_training_rows_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be shared by 3 nodes") as refused:
        group.refuse_bad_shares([[5, 5], [5], [0]])
    assert refused.value.found == "3 shards with training rows"
    group.refuse_bad_shares([[5, 5], [5], [1]])
    with pytest.raises(InputError, match="more than LightGBM counts"):
        group.refuse_bad_shares([[2**30], [2**30]])


def test_nodes_are_no_part_of_the_key_where_one_trains(ran: Ran, tmp_path: Path) -> None:
    project = project_at(ran, tmp_path, "tune.nodes=1")
    shutil.copytree(ran.folder / "out" / "tuned", tmp_path / "tuned")
    assert rayforest.tune(project).resumed
