"""The bundle: its files are checked before they are parsed, and its model is the trained one, bit for bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
import polars as pl
import pytest
from small_projects import Ran, orders, write_orders, write_project

import rayforest
from rayforest.bundle.bundle import load_bundle
from rayforest.errors import BundleError, FormatError, InputError
from rayforest.onnx import runtime_session
from rayforest.tuning.dataset import PreparedData

FILES = [
    "booster.txt",
    "contract.json",
    "features.json",
    "metrics.json",
    "model.onnx",
    "parity.json",
    "profile.json",
    "training.json",
    "trees.onnx",
]


@pytest.fixture
def bundle(ran: Ran, tmp_path: Path) -> Path:
    """A copy of the bundle's own folder, as one ships it."""
    (version,) = Path(ran.project.stage("bundle")).glob("*/manifest.json")
    return Path(shutil.copytree(version.parent, tmp_path / "shipped"))


def test_a_copied_bundle_loads_from_its_own_folder(ran: Ran, bundle: Path) -> None:
    assert load_bundle(str(bundle)).digest == load_bundle(ran.project.stage("bundle")).digest
    assert sorted(load_bundle(str(bundle)).files) == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused_by_name(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} is damaged or was changed"):
        load_bundle(str(bundle))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(str(bundle))


def rewrite_manifest(bundle: Path, **summary: object) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["summary"] |= summary
    path.write_text(json.dumps(manifest))


def test_a_newer_format_is_refused_and_says_to_upgrade(bundle: Path) -> None:
    rewrite_manifest(bundle, bundle_format=99)
    with pytest.raises(FormatError, match="newer format") as caught:
        load_bundle(str(bundle))
    assert (caught.value.found, caught.value.next_step) == ("version 99", "upgrade rayforest")


def test_a_manifest_of_something_else_is_refused(bundle: Path) -> None:
    for text, refused in (
        ("{}", FormatError),
        ("[]", FormatError),
        ("not json", FormatError),
        ('{"summary": {"stage": "prepare"}, "extra": {}}', BundleError),
        ('{"summary": {"bundle_format": 1}, "extra": {"../x": {"sha256": "0"}}}', BundleError),
    ):
        (bundle / "manifest.json").write_text(text)
        with pytest.raises(refused, match="manifest"):
            load_bundle(str(bundle))


def test_a_bundle_that_lacks_a_file_in_its_manifest_is_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["extra"]["features.json"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"has no features\.json"):
        _ = load_bundle(str(bundle)).features


def test_a_folder_without_a_bundle_says_to_export(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no bundle") as caught:
        load_bundle(str(tmp_path))
    assert "rayforest export" in caught.value.next_step


def test_no_file_of_a_bundle_is_a_pickle_or_names_this_machine(bundle: Path) -> None:
    for path in filter(Path.is_file, bundle.rglob("*")):
        data = path.read_bytes()
        assert not data.startswith(b"\x80")
        assert str(Path.home()).encode() + b"/" not in data
        assert str(Path(__file__).parents[2]).encode() not in data


def test_fixed_paths_lead_to_the_current_bundle(ran: Ran) -> None:
    destination = Path(ran.project.stage("bundle"))
    for name in (*FILES, "manifest.json"):
        assert (destination / name).resolve().parent.parent == destination


def test_scores_are_lightgbms_own_bit_for_bit(ran: Ran) -> None:
    data = PreparedData(ran.project.stage("prepared"))
    out = rayforest.read(ran.project.stage("prepared")).collect()
    booster = lgb.Booster(model_str=load_bundle(ran.project.stage("bundle")).read("booster.txt").decode())
    expected = booster.predict(data.features.matrix(out))
    scored = rayforest.read(ran.project.stage("scored")).collect()
    assert scored["id"].to_list() == out["id"].to_list()
    # The sigmoid is written out in the graph: two units in the last place of the C library's, as measured.
    np.testing.assert_array_max_ulp(scored["probability"].to_numpy(), np.asarray(expected), maxulp=2)
    parity = json.loads(load_bundle(ran.project.stage("bundle")).read("parity.json"))
    assert parity["rows"] > 0


def test_multiclass_and_regression_scores_are_lightgbms_own(tmp_path: Path) -> None:
    for target in ("grade", "spent"):
        folder = tmp_path / target
        write_orders(folder, orders(400))
        project = rayforest.load_project(write_project(folder), [f"data.target={target}"])
        rayforest.run(project)
        data = PreparedData(project.stage("prepared"))
        out = rayforest.read(project.stage("prepared")).collect()
        booster = lgb.Booster(model_str=load_bundle(project.stage("bundle")).read("booster.txt").decode())
        expected = np.asarray(booster.predict(data.features.matrix(out)))
        scored = rayforest.read(project.stage("scored")).collect()
        if target == "spent":
            assert scored.columns == ["id", "prediction", "split"]
            np.testing.assert_array_equal(scored["prediction"].to_numpy(), expected)
        else:
            assert scored.columns == ["id", "prediction", "probability_a", "probability_b", "probability_c", "split"]
            found = scored.select(pl.col("^probability_.$")).to_numpy()
            np.testing.assert_allclose(found, expected, rtol=0, atol=9e-16)  # the softmax, as measured
            assert scored["prediction"].to_list() == ["abc"[i] for i in found.argmax(axis=1)]


_PLAIN = """
import sys, glob
import numpy as np, onnxruntime, pyarrow as pa, pyarrow.parquet as pq

model, raw, out = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1  # more threads add the trees in another order
session = onnxruntime.InferenceSession(model, options)
table = pa.concat_tables(pq.read_table(path) for path in sorted(glob.glob(raw)))
feed = {}
for tensor in session.get_inputs():
    column = table[tensor.name]
    if tensor.type == "tensor(string)":
        values = np.array([v or "" for v in column.to_pylist()], object)
    elif tensor.type == "tensor(int64)":
        micros = column.cast(pa.timestamp("us")).cast(pa.int64())
        values = micros.fill_null(-(2**63)).to_numpy()
    else:
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)  # null becomes NaN
    feed[tensor.name] = values.reshape(-1, 1)
probability, prediction = session.run(["probability", "prediction"], feed)
assert probability.shape == (table.num_rows, 1)
np.savez(out, probability=probability[:, 0], prediction=prediction)
assert "rayforest" not in sys.modules
"""


def test_plain_onnxruntime_on_raw_columns_gives_the_scores_of_score(ran: Ran, tmp_path: Path) -> None:
    model, raw = Path(ran.project.stage("bundle")) / "model.onnx", ran.folder / "raw" / "*.parquet"
    out = tmp_path / "out.npz"
    subprocess.run([sys.executable, "-c", _PLAIN, str(model), str(raw), str(out)], check=True)
    scored, found = rayforest.read(ran.project.stage("scored")).collect(), np.load(out)
    for name in ("probability", "prediction"):
        assert found[name].dtype == scored[name].to_numpy().dtype
        np.testing.assert_array_equal(found[name], scored[name].to_numpy())


LABELS = {
    "grade": ([], np.object_),
    "level": (["tune.metric=accuracy"], np.int64),
    "bought": ([], np.bool_),
    "spent": ([], np.float64),
    "grade = 'a'": ([], np.bool_),
    "level % 2": (["tune.metric=auc", "data.positive=0"], np.int64),
    "CASE WHEN bought THEN 'yes' ELSE 'no' END": (["data.positive=no"], np.object_),
}


@pytest.mark.parametrize("graph", ["full", "trees"])
@pytest.mark.parametrize("target", LABELS)
def test_the_graphs_prediction_is_that_of_the_scored_table_in_every_row(
    tmp_path: Path, target: str, graph: str
) -> None:
    settings, dtype = LABELS[target]
    write_orders(tmp_path, orders(400))
    project = rayforest.load_project(
        write_project(tmp_path, run="shard_rows = 130"),
        [f'data.target="{target}"', f"export.graph={graph}", *settings],
    )
    rayforest.run(project)
    scored = rayforest.read(project.stage("scored")).collect()
    out, data = rayforest.read(project.stage("prepared")).collect(), PreparedData(project.stage("prepared"))
    features = data.features.matrix(out)
    bundle = load_bundle(project.stage("bundle"))
    session = runtime_session(bundle.read(bundle.trees))
    outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, {"features": features}), strict=True))
    assert outputs["prediction"].shape == (400,)
    assert outputs["prediction"].dtype == dtype
    assert outputs["prediction"].tolist() == scored["prediction"].to_list()
    assert ("probability" in outputs) == (target != "spent")
    if "probability" in outputs:
        assert outputs["probability"].shape == (400, 3 if target in ("grade", "level") else 1)
    if graph == "full":
        full = onnx.load_from_string(bundle.read("model.onnx"))
        assert [o.name for o in full.graph.output] == list(outputs)


def test_a_graph_of_trees_alone_scores_like_the_full_one(ran: Ran, tmp_path: Path) -> None:
    project = rayforest.load_project(
        ran.folder / "project.toml", ['export.graph="trees"', f'project.root="{tmp_path}"']
    )
    for stage in ("prepared", "tuned"):
        shutil.copytree(ran.project.stage(stage), tmp_path / stage)  # type: ignore[arg-type]
    rayforest.export(project)
    rayforest.score(project)
    assert "trees.onnx" not in load_bundle(str(tmp_path / "bundle")).files
    assert rayforest.read(tmp_path / "scored").collect().equals(rayforest.read(ran.project.stage("scored")).collect())


def test_a_model_of_other_prepared_data_is_not_exported(ran: Ran, tmp_path: Path) -> None:
    for stage in ("prepared", "tuned"):
        shutil.copytree(ran.project.stage(stage), tmp_path / stage)  # type: ignore[arg-type]
    settings = [f'project.root="{tmp_path}"', 'features.amount="amount * 2"']
    project = rayforest.load_project(ran.folder / "project.toml", settings)
    rayforest.prepare(project, replace=True)
    with pytest.raises(InputError, match="was not trained on") as caught:
        rayforest.export(project)
    assert caught.value.next_step == "run: rayforest tune PROJECT --replace"
    assert not (tmp_path / "bundle").exists()
