"""What does a model cost that several nodes train together, is it as good, and how much memory does each node take?

Made-up rows of some shapes are prepared once and tuned, one trial of some rounds: by one process, and by two Ray nodes
of this machine with a CPU each. Both have two CPUs. The peak of each training process is held to the estimate by
which tune decides on how many nodes it trains, and the areas under the curve on the test rows to each other. Two nodes
train twice, and must come to the same bytes.

Where it is installed (`pip install "ray[train]"`), Ray Train's LightGBMTrainer trains on the same prepared shards, by
LightGBM's own bins and without a look at validation rows: its seconds and its peak are those of the least that it does.

    python -m benchmarks.beyond_a_node [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

import rayforest
from benchmarks.harness import write
from rayforest.engine.executors import RayExecutor
from rayforest.engine.own_ray.head import present_token
from rayforest.stages.stage import Context
from rayforest.tuning.admission import Needs
from rayforest.tuning.dataset import PartRows, PreparedData
from rayforest.tuning.tune import Tune, tune

FILES = 8
LEAVES = 63


@dataclass(frozen=True)
class Shape:
    """Of a table."""

    rows: int
    features: int
    rounds: int

    def write(self, folder: Path) -> rayforest.Project:
        """The table and its project, prepared."""
        raw, size = folder / "raw", self.rows // FILES
        raw.mkdir(parents=True)
        for file in range(FILES):
            rng = np.random.default_rng(file)
            x = rng.normal(size=(size, self.features))
            score = x[:, 0] * x[:, 1] + np.sin(3 * x[:, 2]) + rng.normal(size=size)
            columns = {f"x{i}": x[:, i] for i in range(self.features)}
            keys = {"id": np.arange(file * size, (file + 1) * size)}
            pl.DataFrame(keys | columns | {"y": score > 0.5}).write_parquet(raw / f"{file}.parquet")
        features = "\n".join(f'x{i} = "x{i}"' for i in range(self.features))
        sections = {
            "project": 'name = "shape"',
            "data": 'source = "raw"\ntarget = "y"',
            "features": features,
            "tune": "trials = 1\nworkers = 1",
            "tune.space": f"num_leaves = {LEAVES}\nnum_iterations = {self.rounds}\nlearning_rate = 0.1",
            "run": f"shard_rows = {size}",
        }
        text = "\n".join(f"[{name}]\n{lines}" for name, lines in sections.items())
        (folder / "project.toml").write_text(text)
        project = rayforest.load_project(folder / "project.toml")
        rayforest.prepare(project)
        return project

    def __str__(self) -> str:
        return f"{self.rows:,} x {self.features}"


SHAPES = (Shape(800_000, 20, 20), Shape(320_000, 100, 20), Shape(3_200_000, 20, 15))
QUICK = (Shape(16_000, 6, 10),)


class Members:
    """Peak memory and CPU seconds of the processes of this name, looked at for as long as they live."""

    def __init__(self, name: str) -> None:
        self.name, self.peaks, self.cpu_s = name, dict[int, int](), dict[int, float]()
        self._ended = threading.Event()

    def __enter__(self) -> Members:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            for process in psutil.process_iter():
                try:
                    if self.name in "".join(process.cmdline()[:1]):
                        status = Path(f"/proc/{process.pid}/status").read_text()
                        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                        self.peaks[process.pid] = int(peak.split()[1]) * 1024
                        self.cpu_s[process.pid] = sum(process.cpu_times()[:2])
                except (psutil.Error, OSError, StopIteration):
                    continue


def one_node(folder: Path, root: Path) -> dict[str, Any]:
    """In this process, which does nothing else."""
    project = _project(folder, root, 'run.executor="in-process"', "run.workers=2", "tune.nodes=1")
    began = time.monotonic()
    result = rayforest.tune(project)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": time.monotonic() - began,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peaks": [used.ru_maxrss * 1024],
        "auc": result.metrics["auc"],
        "estimate": _needs(project).bytes_on(1),
    }


def two_nodes(folder: Path, root: Path, address: str) -> dict[str, Any]:
    """On the cluster of the address."""
    project = _project(folder, root, "tune.nodes=2")
    executor = RayExecutor(address, quiet=True)
    with Members("ray::_MemberActor") as members:
        began = time.monotonic()
        result = tune(Context(project, executor=executor))
        seconds = time.monotonic() - began
    executor.close()
    return {
        "seconds": seconds,
        "cpu_s": sum(members.cpu_s.values()),
        "peaks": list(members.peaks.values()),
        "auc": result.metrics["auc"],
        "estimate": _needs(project).bytes_on(2),
    }


def ray_train(folder: Path, root: Path, address: str) -> dict[str, Any]:
    """The peer."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.lightgbm import LightGBMTrainer

    project = _project(folder, root)
    stage = Tune.look(Context(project))
    loop = partial(_ray_train_loop, stage.data.destination, stage.data.manifest.key, stage.problem, stage.space)
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    scaling = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}, placement_strategy="STRICT_SPREAD")
    with Members("RayTrainWorker") as members:
        began = time.monotonic()
        LightGBMTrainer(loop, scaling_config=scaling, run_config=RunConfig(storage_path=str(root))).fit()
        seconds = time.monotonic() - began
    ray.shutdown()
    return {"seconds": seconds, "cpu_s": sum(members.cpu_s.values()), "peaks": list(members.peaks.values())}


def _ray_train_loop(destination: str, key: str, problem: Any, space: Any) -> None:
    import lightgbm as lgb
    from ray import train
    from ray.train.lightgbm import get_network_params

    data = PreparedData(destination, key)
    rank, ranks = train.get_context().get_world_rank(), train.get_context().get_world_size()
    paths = [path for i, path in enumerate(data.manifest.data_paths()) if i % ranks == rank]
    rows = PartRows(data, "train", problem, paths)
    matrix = np.concatenate([rows.load(block) for block in range(len(paths))])
    params = {**space.fixed, **get_network_params(), "objective": "binary", "tree_learner": "data", "num_threads": 1}
    rounds = params.pop("num_iterations")
    lgb.train({**params, "pre_partition": True, "verbosity": -1}, lgb.Dataset(matrix, rows.labels), rounds)


def _needs(project: rayforest.Project) -> Needs:
    stage = Tune.look(Context(project))
    return Needs.of(stage.data, stage.problem, stage.space)


def _project(folder: Path, root: Path, *settings: str) -> rayforest.Project:
    root.mkdir(exist_ok=True)
    if not (root / "prepared").exists():
        (root / "prepared").symlink_to(folder / "out" / "prepared")
    return rayforest.load_project(folder / "project.toml", [f'project.root="{root}"', *settings])


@contextmanager
def cluster_of_two(folder: Path) -> Any:
    """The address of a Ray of two nodes with a CPU each, and a head without one."""
    from ray.cluster_utils import Cluster

    token = folder / "token"
    token.write_text(os.urandom(32).hex())
    with present_token(token):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1, object_store_memory=300_000_000)
            yield cluster.address
        finally:
            cluster.shutdown()


def _in_a_process(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.beyond_a_node", "--contender", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _line(shape: Shape, name: str, found: dict[str, Any]) -> str:
    peak, estimate = max(found["peaks"]), found.get("estimate")
    mb, held = f"{peak / 1e6:,.0f}", f"{estimate / 1e6:,.0f} ({estimate / peak:.2f})" if estimate else ""
    auc = f"{found['auc']:.4f}" if "auc" in found else ""
    return f"| {shape} | {name} | {auc} | {found['seconds']:.1f} | {found['cpu_s']:.1f} | {mb} | {held} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beyond_a_node", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--contender", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        name, *paths, address = options.contender
        folder, root = map(Path, paths)
        contender = {"one": lambda f, r, _: one_node(f, r), "two": two_nodes, "train": ray_train}[name]
        print(json.dumps(contender(folder, root, address)))
        return 0
    lines = [
        "| rows x features | trained by | AUC on test rows | seconds | CPU seconds | peak, MB | estimate (of peak) |",
        "|---|---|---|---|---|---|---|",
    ]
    document = []
    peer = importlib.util.find_spec("tensorboardX") is not None and importlib.util.find_spec("pandas") is not None
    with tempfile.TemporaryDirectory() as temporary, cluster_of_two(Path(temporary)) as address:
        for number, shape in enumerate(QUICK if options.quick else SHAPES):
            folder = Path(temporary, str(number))
            shape.write(folder)
            found = {"one process": _in_a_process("one", folder, folder / "one", "-")}
            found["two nodes"] = _in_a_process("two", folder, folder / "two", address)
            _in_a_process("two", folder, folder / "again", address)
            first, second = (_model(folder / name) for name in ("two", "again"))
            if first != second:
                raise SystemExit(f"{shape}: two nodes trained twice, and came to two models")
            if abs(found["one process"]["auc"] - found["two nodes"]["auc"]) > 0.005:
                raise SystemExit(f"{shape}: the areas differ by more than 0.005: {found}")
            if peer:
                found["two nodes, Ray Train, without validation"] = _in_a_process(
                    "train", folder, folder / "train", address
                )
            lines += [_line(shape, name, of) for name, of in found.items()]
            document.append({"shape": str(shape), "rounds": shape.rounds, "leaves": LEAVES, "found": found})
    write("beyond_a_node", {"shapes": document}, "\n".join(lines), quick=options.quick)
    return 0


def _model(root: Path) -> bytes:
    (model,) = root.glob("tuned/*/booster.txt")
    return model.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
