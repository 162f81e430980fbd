"""A Ray of several nodes on this machine: nodes join, nodes and heads are killed, and other versions come."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from cases import SHARDS, Case, judged, payments, rayforest, records
from violence import Job, contents, ended, pause, started, wait_until

from rayforest.engine.executors import RayExecutor, WorkerLostError
from rayforest.engine.own_ray.head import client_settings, present_token
from rayforest.engine.processes import descendants, identify, send


@contextlib.contextmanager
def cluster_of_nodes(folder: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """A Ray of several nodes on this machine, whose head has no CPUs; and the environment of its drivers."""
    from ray.cluster_utils import Cluster

    token = folder / "token"
    token.write_text("chaos" * 12)
    with present_token(token):
        noticed_soon = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}  # by default after 15 s
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": noticed_soon}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster, client_settings(token) | {"RAY_gcs_rpc_server_reconnect_timeout_s": "2"}  # by default 60
        finally:
            cluster.shutdown()


def kill_node(cluster: Any, node: Any) -> None:
    """SIGKILL of all that runs for a node, workers first, as when a machine is gone."""
    roots = [entry.process.pid for entries in node.all_processes.values() for entry in entries]
    for process in [process for pid in roots for process in (*descendants(pid), identify(pid))]:
        if process is not None:
            send(process, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def nodes_that_come_and_go(folder: Path, rng: random.Random) -> str:
    """A node joins at a third of a run, the first one is killed at two thirds; then, in another run, the head."""
    with cluster_of_nodes(folder) as (cluster, environment):
        job = Job(folder / "grown", {"executor": "ray", "address": cluster.address, "pause": 0.15}, environment)
        grown_and_shrunk(job, cluster, rng)
        judged(job)
        seen = f"{len(set(job.attempts()))} attempts at {SHARDS} shards"
        job = Job(folder / "beheaded", {"executor": "ray", "pause": 0.1}, environment)
        kept = beheaded(job, cluster, rng)
    # Elsewhere the same command goes on.
    before, job.environment = len(job.attempts()), {}
    assert job.finish(pause=0)["resumed"] == kept
    assert len(job.attempts()) - before == SHARDS - kept
    judged(job)
    return f"{seen}; without a head {kept} of {SHARDS} shards were kept"


def grown_and_shrunk(job: Job, cluster: Any, rng: random.Random) -> None:
    """Both nodes did work, and only what the lost one was at is done again."""
    first = cluster.add_node(num_cpus=1)
    driver = job.start()
    wait_until(lambda: job.finished_shards() >= SHARDS // 3, "a third", driver)
    second = cluster.add_node(num_cpus=1)
    wait_until(lambda: second.node_id in job.nodes(), "work on the second node", driver)
    wait_until(lambda: job.finished_shards() >= 2 * SHARDS // 3, "two thirds", driver)
    pause(rng, 0.3)
    kill_node(cluster, first)
    ended(driver)
    assert set(job.nodes()) == {first.node_id, second.node_id}
    times = Counter(shard for shard, _ in job.attempts())
    again = {shard for shard, count in times.items() if count > 1}
    assert len(again) <= 1, "the lost node had one CPU"
    assert times.total() == SHARDS + len(again)
    lost = [s for (s, _), node in zip(job.attempts(), job.nodes(), strict=True) if node == first.node_id]
    assert again <= {lost[-1]}, "what was done again is not what the lost node was at"


def beheaded(job: Job, cluster: Any, rng: random.Random) -> int:
    """A node of other versions is refused as it joins; without a head the run ends, and says how to go on."""
    driver = job.start(address=cluster.address)
    wait_until(lambda: job.finished_shards() >= 2, "finished shards", driver)
    other = job.folder / "other" / "polars-0.1.2.dist-info" / "METADATA"
    other.parent.mkdir(parents=True)
    other.write_text("Metadata-Version: 2.1\nName: polars\nVersion: 0.1.2\n")
    path = os.pathsep.join(filter(None, (str(other.parents[1]), os.environ.get("PYTHONPATH"))))
    late = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": path})
    error = ended(driver, code=2)["error"]
    assert (error["expected"], error["found"]) == (f"polars {version('polars')}", "polars 0.1.2")
    assert late.node_id not in job.nodes()
    kill_node(cluster, late)
    driver, before = job.start(address=cluster.address), job.finished_shards()
    wait_until(lambda: job.finished_shards() >= before + rng.randint(2, 6), "finished shards", driver)
    kill_node(cluster, cluster.head_node)
    error = ended(driver, code=3)["error"]
    assert "is gone" in error["what"]
    assert "run the same command" in error["next"]
    kept = job.finished_shards()
    assert before < kept < SHARDS
    return kept


def commands_on_nodes(folder: Path, rng: random.Random) -> str:
    """`rayforest prepare` and `score`, each with a node that joins at a third and another that is killed at two."""
    project = payments(folder, 200_000)
    with project.open("a") as file:
        file.write(TUNE)
    rayforest("run", str(project), f"--set=project.root={folder / 'undisturbed'}")
    told = []
    with cluster_of_nodes(folder) as (cluster, environment):
        for command, result in (("prepare", "prepared"), ("score", "scored")):
            settings = [f"--set=run.address={cluster.address}", "--set=run.executor=ray"]
            arguments = ["-m", "rayforest.jobs.cli", command, str(project), *settings, "--json"]
            destination, whole = folder / "out" / result, records(folder / "undisturbed" / result)
            node = cluster.add_node(num_cpus=1)
            log = (folder / f"{command}.log").open("w+")
            run = subprocess.Popen(
                [sys.executable, *arguments], stdout=log, stderr=log, text=True, env=os.environ | environment
            )
            started.append(run)
            wait_until(lambda d=destination, n=whole: records(d) >= n // 3, "a third", run)
            joined = cluster.add_node(num_cpus=1)
            wait_until(lambda d=destination, n=whole: records(d) >= 2 * n // 3, "two thirds", run)
            seconds, kept = cpu_seconds(joined), records(destination)
            pause(rng, 0.2)
            kill_node(cluster, node)
            assert run.wait() == 0, log.seek(0) or log.read()[-3000:]
            assert seconds > 0.5, f"the node that joined had done {seconds:.1f} s of work"
            log.seek(0)
            again = tried_again(log.read())
            assert again <= 1, "the lost node had one CPU"
            assert contents(destination) == contents(folder / "undisturbed" / result)
            told.append(f"{command}: {again} of {whole} shards again, {whole - kept} after the kill")
            kill_node(cluster, joined)
            if command == "prepare":
                rayforest("tune", str(project))
                rayforest("export", str(project))
        kept = command_without_head(project, folder, cluster, environment)
    rayforest("prepare", str(project), f"--set=project.root={folder / 'beheaded'}")
    assert contents(folder / "beheaded" / "prepared") == contents(folder / "undisturbed" / "prepared")
    return "; ".join([*told, f"prepare without a head: {kept} kept"])


def command_without_head(project: Path, folder: Path, cluster: Any, environment: dict[str, str]) -> int:
    """`rayforest prepare` whose cluster loses its head: one JSON object says so. Returns how many shards are kept."""
    cluster.add_node(num_cpus=1)
    settings = [f"run.address={cluster.address}", "run.executor=ray", f"project.root={folder / 'beheaded'}"]
    arguments = ["-m", "rayforest.jobs.cli", "prepare", str(project), *(f"--set={one}" for one in settings), "--json"]
    with (folder / "beheaded.log").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | environment
        )
    started.append(run)
    destination = folder / "beheaded" / "prepared"
    wait_until(lambda: records(destination) >= 50, "finished shards", run)
    kill_node(cluster, cluster.head_node)
    out, _ = run.communicate()
    assert run.returncode == 3, out
    (line,) = out.splitlines()
    assert "is gone" in json.loads(line)["error"]["what"]
    return records(destination)


def trials_on_nodes(folder: Path, rng: random.Random) -> str:
    """Calls that share a state, as trials do: a node that joins gets its share, and those of a killed one fail."""

    def work_at(_: dict[str, int], n: int) -> str:  # in here, or workers would import it
        import ray

        time.sleep(0.3)
        return str(ray.get_runtime_context().get_node_id())

    with cluster_of_nodes(folder) as (cluster, _):
        first = cluster.add_node(num_cpus=1)
        executor = RayExecutor(cluster.address, quiet=True)
        try:
            outcomes, nodes, joined = [], [], None
            for outcome in executor.stream(work_at, range(40), state=dict):
                outcomes.append(outcome)
                nodes.append(outcome.value)
                if len(outcomes) == 5:
                    joined = cluster.add_node(num_cpus=1)
                if len(outcomes) == 25:
                    assert joined is not None
                    assert joined.node_id in nodes
                    kill_node(cluster, first)
            assert joined is not None
        finally:
            executor.close()
    lost = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert all(isinstance(error, WorkerLostError) for error in lost)
    assert len({outcome.item for outcome in outcomes}) == 40
    assert set(nodes[-5:]) == {joined.node_id}
    return f"{nodes.count(joined.node_id)} of 40 on the node that joined, {len(lost)} lost with the other"


def cpu_seconds(node: Any) -> float:
    """Of the workers of a node."""
    (raylet,) = node.all_processes["raylet"]
    workers = [psutil.Process(found.pid) for found in descendants(raylet.process.pid)]
    named = [worker for worker in workers if "ray::" in " ".join(worker.cmdline())]
    return sum(worker.cpu_times().user for worker in named)


def tried_again(log: str) -> int:
    """Shards that failed, by the events of a command's --json."""
    failed: Counter[str] = Counter()
    for line in log.splitlines():
        if line.startswith("{") and (event := json.loads(line)).get("failed"):
            failed[event["step"]] = max(failed[event["step"]], event["failed"])
    return failed.total()


TUNE = """
[tune]
trials = 2
[tune.space]
num_iterations = 10
"""

CLUSTER_CASES: dict[str, Case] = {"nodes join and are killed, and the head, Ray": nodes_that_come_and_go}
LONG_CASES: dict[str, Case] = {
    "nodes join and are killed, prepare and score": commands_on_nodes,
    "nodes join and are killed, trials": trials_on_nodes,
}
"""Of the long form alone."""
