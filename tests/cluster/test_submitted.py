"""`rayforest jobs`, `logs` and `stop`: a job that was sent is found, read and ended from anywhere."""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path

import pytest
from command import rayforest
from shared_cluster import use_state_folder
from waiting import wait_until

from rayforest.cluster.local import ClusterInfo
from rayforest.cluster.submit import submit
from rayforest.cluster.submitted import job_log, list_jobs, stop_job
from rayforest.errors import ConfigError

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")]


@pytest.fixture
def cluster(cluster: ClusterInfo, cluster_home: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterInfo:
    use_state_folder(monkeypatch, cluster_home)
    return cluster


def sent(project: Path, cluster: ClusterInfo, code: str) -> str:
    entrypoint = shlex.join(["exec", sys.executable, "-c", code])
    return submit("score", project, address=cluster.dashboard, entrypoint=entrypoint, follow=False).submission_id


def status_of(job: str, cluster: ClusterInfo) -> str:
    return {found.submission_id: found.status for found in list_jobs(cluster.dashboard).jobs}[job]


def test_a_job_is_listed_read_and_followed_to_its_exit_code(project: Path, cluster: ClusterInfo) -> None:
    job = sent(project, cluster, "import sys; print('in the log'); sys.exit(3)")
    output = io.StringIO()
    assert job_log(job, address=cluster.dashboard, follow=True, output=output) == 3
    assert output.getvalue() == "in the log\n"
    found = next(found for found in list_jobs(cluster.dashboard).jobs if found.submission_id == job)
    assert (found.status, found.exit_code, found.has_ended) == ("failed", 3, True)
    assert found.started is not None
    assert found.ended is not None
    again = io.StringIO()
    assert job_log(job, address=cluster.dashboard, output=again) == 3
    assert again.getvalue() == "in the log\n"


def test_the_newest_job_is_the_first(project: Path, cluster: ClusterInfo) -> None:
    jobs = []
    for _ in range(2):
        jobs.append(sent(project, cluster, "pass"))
        job_log(jobs[-1], address=cluster.dashboard, follow=True, output=io.StringIO())
    listed = [found.submission_id for found in list_jobs(cluster.dashboard).jobs]
    assert listed.index(jobs[1]) < listed.index(jobs[0])


def test_a_job_is_stopped_as_ctrl_c_does_and_stopping_it_again_changes_nothing(
    project: Path, cluster: ClusterInfo, tmp_path: Path
) -> None:
    begun, told = tmp_path / "begun", tmp_path / "told"
    code = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(told)!r}).touch(), sys.exit(130)))\n"
        f"pathlib.Path({str(begun)!r}).touch()\n"
        "time.sleep(600)"
    )
    job = sent(project, cluster, code)
    assert wait_until(begun.exists)
    assert status_of(job, cluster) == "running"
    assert stop_job(job, address=cluster.dashboard).status == "stopped"
    assert told.exists()
    assert stop_job(job, address=cluster.dashboard).status == "stopped"
    assert status_of(job, cluster) == "stopped"


def test_an_unknown_job_is_wrong_use_and_the_nearest_is_named(project: Path, cluster: ClusterInfo) -> None:
    job = sent(project, cluster, "pass")
    job_log(job, address=cluster.dashboard, follow=True, output=io.StringIO())
    for ask in (job_log, stop_job):
        with pytest.raises(ConfigError, match="knows no job") as refused:
            ask(job[:-1], address=cluster.dashboard)
        assert job in (refused.value.next_step or "")


def test_the_commands_say_the_same(project: Path, cluster: ClusterInfo) -> None:
    job = sent(project, cluster, "import sys; print('told'); sys.exit(2)")
    followed = rayforest("logs", job, "--address", cluster.dashboard, "--follow")
    assert (followed.code, followed.out) == (2, "told\n")
    shown = rayforest("logs", job, "--address", cluster.dashboard)
    assert (shown.code, shown.out) == (0, "told\n")
    listed = rayforest("jobs", "--address", cluster.dashboard, "--json").json
    assert job in [found["submission_id"] for found in listed["jobs"]]
    assert job in rayforest("jobs", "--address", cluster.dashboard).out
    stopped = rayforest("stop", job, "--address", cluster.dashboard, "--json").json
    assert stopped == {"command": "stop", "submission_id": job, "status": "failed"}
    refused = rayforest("stop", "rayforest-none", "--address", cluster.dashboard, "--json")
    assert refused.code == 2
    assert "knows no job" in json.loads(refused.out)["error"]["what"]
