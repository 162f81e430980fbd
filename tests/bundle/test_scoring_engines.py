"""Whichever engine adds up the trees, the scores are the same bytes; `auto` proves it, and says what it took."""

from __future__ import annotations

import logging
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
import pyarrow as pa
import pytest
from stored_types import rows, write_rows

import rayforest
from rayforest.bundle.bundle import load_bundle
from rayforest.bundle.scoring_engines import KernelEngine, OnnxRuntimeEngine, ProvenKernel, first_difference
from rayforest.errors import ConfigError
from rayforest.onnx import from_lightgbm


def model_of(**params: object) -> tuple[onnx.ModelProto, pa.Table]:
    """A small LightGBM model as ONNX, and rows for it with NaN and null in float32, float64, integer and boolean."""
    rng = np.random.default_rng(3)
    x = np.round(rng.normal(size=(600, 5)), 1)
    x[:, 3], x[:, 4] = rng.integers(0, 20, 600), rng.random(600) < 0.5
    x[rng.random(x.shape) < 0.1] = np.nan
    label = np.nansum(x[:, :3], axis=1) + rng.normal(size=600) * 0.1 > 0
    data = lgb.Dataset(x, label, categorical_feature=[3])
    settings = {"objective": "binary", "num_leaves": 8, "min_data_in_leaf": 5, "num_threads": 1, "verbosity": -1}
    model = from_lightgbm(lgb.train({**settings, **params}, data, 15))
    kinds = [pa.float32(), pa.float64(), pa.float64(), pa.int32(), pa.bool_()]
    columns = [pa.array(x[:, i], from_pandas=i > 0).cast(kind, safe=False) for i, kind in enumerate(kinds)]
    return model, pa.Table.from_arrays(columns, names=[f"f{i}" for i in range(5)])


class OneBitOff(KernelEngine):
    """The kernel, but for the last bit of one score."""

    def raw_score(self, inputs: pa.Table) -> np.ndarray:
        scores = super().raw_score(inputs).copy()
        if len(scores) > 7:
            scores.view(np.int64)[7, 0] ^= 1
        return scores


def test_both_engines_give_the_same_bits_on_columns_of_any_type() -> None:
    model, inputs = model_of()
    expected, found = OnnxRuntimeEngine(model).raw_score(inputs), KernelEngine(model).raw_score(inputs)
    assert expected.shape == (600, 1)
    assert expected.tobytes() == found.tobytes()
    assert OnnxRuntimeEngine(model).raw_score(inputs.slice(0, 0)).shape == (0, 1)


def test_the_first_difference_is_named_and_two_nans_are_equal() -> None:
    left = np.array([[1.0, np.nan], [2.0, 3.0]])
    assert first_difference(left, left.copy()) is None
    right = left.copy()
    right[1, 1] = np.nextafter(right[1, 1], 4)
    assert first_difference(left, right) == (
        "1 of 4 differ; the first is output 1 of row 1, by 1 units in the last place"
    )
    assert first_difference(np.array([[0.0]]), np.array([[-0.0]])) is not None
    assert first_difference(left, left[:, :1]) == "shape [2, 1] instead of [2, 2]"


def test_a_kernel_that_is_one_bit_off_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = model_of()
    engine = ProvenKernel(model, OneBitOff)
    with caplog.at_level(logging.WARNING, logger="rayforest.scoring"):
        scores = engine.raw_score(inputs)
    assert scores.tobytes() == OnnxRuntimeEngine(model).raw_score(inputs).tobytes()
    assert engine.name == "onnxruntime"
    assert "output 0 of row 7, by 1 units in the last place" in caplog.text


def test_a_model_that_the_kernel_refuses_is_scored_by_onnxruntime(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = model_of(objective="regression", linear_tree=True)
    with pytest.raises(ConfigError, match="cannot read"):
        KernelEngine(model)
    with caplog.at_level(logging.WARNING, logger="rayforest.scoring"):
        proof = ProvenKernel(model).prove(inputs)
    assert (proof.engine.name, proof.fell_back) == ("onnxruntime", True)
    assert "linear models" in proof.reason
    assert proof.reason in caplog.text


def test_a_kernel_that_breaks_is_not_used() -> None:
    class Broken(KernelEngine):
        def raw_score(self, inputs: pa.Table) -> np.ndarray:
            raise NotImplementedError("this CPU")

    proof = ProvenKernel(model_of()[0], Broken).prove(model_of()[1])
    assert proof.engine.name == "onnxruntime"
    assert proof.reason == "the kernel cannot be used: NotImplementedError"


def test_a_proof_without_rows_waits_for_the_first_ones() -> None:
    model, inputs = model_of()
    engine = ProvenKernel(model, OneBitOff)
    assert engine.prove(inputs.slice(0, 0)).reason == "it is proven on the first row that comes"
    engine.raw_score(inputs)
    assert engine.name == "onnxruntime"


@pytest.fixture(scope="module")
def new_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("new"), rows(500, seed=11))


def scored(project: Path, source: Path, folder: Path, *settings: str) -> tuple[rayforest.StageResult, list[bytes]]:
    """Score into a folder; the result, and the bytes of every file of rows and quarantine in order."""
    where = [f'score.source="{source}"', f'score.destination="{folder}"']
    result = rayforest.score(project, overrides=[*where, *settings])
    files = [*rayforest.files(folder), *rayforest.files(folder, quarantine=True)]
    return result, [Path(file).read_bytes() for file in files]


def test_the_engine_and_the_workers_change_no_byte_and_no_plan(
    types_project: Path, new_rows: Path, tmp_path: Path
) -> None:
    ways = {"auto": 2, "kernel": 1, "onnxruntime": 3}
    results = {
        engine: scored(types_project, new_rows, tmp_path / engine, f"score.engine={engine}", f"run.workers={workers}")
        for engine, workers in ways.items()
    }
    first = results["auto"]
    assert first[0].rows_quarantined
    assert first[0].as_dict()["engine"] == "kernel"
    for engine, (result, data) in results.items():
        assert data == first[1], engine
        assert (result.metrics, result.reasons) == (first[0].metrics, first[0].reasons)
    keys = {path.name for engine in ways for path in (tmp_path / engine).iterdir() if len(path.name) == 32}
    assert len(keys) == 1
    again, _ = scored(types_project, new_rows, tmp_path / "auto", "score.engine=onnxruntime")
    assert again.resumed


def test_the_engine_is_said_with_the_reason(types_project: Path, new_rows: Path, tmp_path: Path) -> None:
    class Heard:
        quiet = True

        def __init__(self) -> None:
            self.said: list[str] = []

        def say(self, message: str) -> None:
            self.said.append(message)

        def progress(self, step: str, progress: object) -> None:
            pass

    heard = Heard()
    overrides = [f'score.source="{new_rows}"', f'score.destination="{tmp_path}"']
    result = rayforest.score(types_project, overrides=overrides, reporter=heard)
    assert any("engine kernel: it gives onnxruntime's bits on the first" in message for message in heard.said)
    assert result.as_dict()["engine"] == "kernel"
    assert "onnxruntime's bits" in str(result.as_dict()["engine_because"])


def test_scores_are_the_trees_own_raw_scores(types_project: Path, new_rows: Path, tmp_path: Path) -> None:
    scored(types_project, new_rows, tmp_path, 'score.outputs=["raw_score", "probability"]', 'score.carry=["id"]')
    out = rayforest.read(tmp_path).collect()
    bundle = load_bundle(str(types_project.parent / "out/bundle"))
    booster = lgb.Booster(model_str=bundle.read("booster.txt").decode())
    assert booster.num_trees() > 1
    np.testing.assert_allclose(1 / (1 + np.exp(-out["raw_score"].to_numpy())), out["probability"], rtol=1e-15)
