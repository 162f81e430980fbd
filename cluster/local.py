"""A Ray cluster on this machine: `rayforest cluster up`, `down` and `status`.

`up` starts a Ray head that only this user can reach: every port is bound to 127.0.0.1, every client must show a
token, and usage statistics are off. It stays until `down`, which ends exactly the processes of this cluster and
removes everything that belongs to it. Other Ray clusters on the machine, of this user or of others, are not touched.

What is where:

    STATE/cluster.json     which processes (pid and start time), addresses and folder; no secret
    /tmp/rayforest-XXXX/   of mode 0700: the token (0600), Ray's sessions and logs; gone after `down`

STATE is RAYFOREST_HOME, else XDG_STATE_HOME/rayforest, else ~/.local/state/rayforest: one cluster for each.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rayforest.cluster.dashboard import Dashboard
from rayforest.engine.own_ray.head import RayHead, client_settings, start_head
from rayforest.engine.processes import ProcessId, descendants, is_running, send
from rayforest.errors import ConfigError, RayforestError
from rayforest.formats import CLUSTER, Document

DEFAULT_DASHBOARD_PORT = 8265


@dataclass(frozen=True)
class ClusterInfo:
    """A local cluster, as `up` left it."""

    address: str
    """Host and port of Ray itself, for RAY_ADDRESS."""
    dashboard: str
    """URL of dashboard and Jobs API, for `rayforest submit --address`."""
    cpus: int | None
    """CPUs that Ray may hand out; None: those of the machine."""
    folder: Path
    """Token, sessions and logs."""
    keeper: ProcessId
    """The process that ends all others and removes the folder."""
    processes: tuple[ProcessId, ...]
    """What ran when the cluster had started, keeper excluded."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Pids of the keeper and of the processes that ran when the cluster had started."""
        return (self.keeper.pid, *(process.pid for process in self.processes))

    @property
    def head(self) -> RayHead:
        """The same cluster, as the library knows it."""
        return RayHead(address=self.address, folder=self.folder, keeper=self.keeper)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which other Ray programs of this user join the cluster. The token itself is not in it."""
        return {"RAY_ADDRESS": self.address, **client_settings(self.head.token)}


@dataclass(frozen=True)
class ClusterReport:
    """What a verb found or did."""

    state: Literal["up", "down"]
    """After the verb."""
    what: str
    """One sentence for people."""
    cluster: ClusterInfo | None = None
    """The cluster that is up; after `down`, the one that was."""

    def as_dict(self) -> dict[str, object]:
        """The JSON object of the command, without its name."""
        found = self.cluster
        where = {} if found is None else {"address": found.address, "dashboard": found.dashboard, "pids": found.pids}
        return {"state": self.state, "what": self.what, **where}

    def __str__(self) -> str:
        if self.state == "down" or self.cluster is None:
            return self.what
        joined = " ".join(f"{name}={value}" for name, value in self.cluster.environment.items())
        return (
            f"{self.what}\n"
            f"  submit to it:     rayforest submit run project.toml --address {self.cluster.dashboard}\n"
            f"  other Ray tools:  export {joined}\n"
            f"  stop it:          rayforest cluster down"
        )


def up(*, cpus: int | None = None, dashboard_port: int = DEFAULT_DASHBOARD_PORT) -> ClusterReport:
    """Start a local Ray cluster and leave it running; one that is up already stays as it is.

    Args:
        cpus: CPUs that Ray may hand out; those of the machine by default.
        dashboard_port: of dashboard and Jobs API. All other ports are chosen by the system.

    Raises:
        ConfigError: the port is taken.
        RayforestError: Ray did not start.
    """
    with _locked_state() as file:
        if found := _read(file):
            if _lives(found):
                return ClusterReport("up", f"a cluster is already up at {found.dashboard}", found)
            _remove(found, file)
        _check_free(dashboard_port)
        # A cluster is of no folder: paths of a job are absolute, and no mounted folder is kept busy.
        head = start_head(cpus=cpus, dashboard_port=dashboard_port, cwd=Path("/"))
        started = ClusterInfo(
            address=head.address,
            dashboard=f"http://127.0.0.1:{dashboard_port}",
            cpus=cpus,
            folder=head.folder,
            keeper=head.keeper,
            processes=descendants(head.keeper.pid),
        )
        _write(file, started)
        head.keep()  # last: killed before this line, `up` leaves no process behind
        return ClusterReport("up", f"started a cluster at {started.dashboard}", started)


def down() -> ClusterReport:
    """End the cluster's processes and remove what belongs to it: running jobs end with it."""
    with _locked_state() as file:
        found = _read(file)
        if found is None:
            return ClusterReport("down", "no cluster is up")
        lived = _lives(found)
        _remove(found, file)
        what = f"stopped the cluster at {found.dashboard}" if lived else _DIED
        return ClusterReport("down", what, found)


def status() -> ClusterReport:
    """Say whether the cluster is up; of one that died, remove what is left."""
    with _locked_state() as file:
        found = _read(file)
        if found is None:
            return ClusterReport("down", "no cluster is up; start one with: rayforest cluster up")
        if not _lives(found):
            _remove(found, file)
            return ClusterReport("down", _DIED, found)
    try:
        version = Dashboard.at(found.dashboard, token_file=found.head.token).ray_version()
    except RayforestError as error:
        return ClusterReport("up", f"the cluster runs, but: {error.what}", found)
    return ClusterReport("up", f"Ray {version} is up at {found.dashboard}", found)


def recorded_cluster() -> ClusterInfo | None:
    """The cluster that `up` started and that lives, if there is one."""
    found = _read(_state_folder() / "cluster.json")
    return found if found is not None and _lives(found) else None


_DIED = "the cluster had died; what was left of it is removed"


def _state_folder() -> Path:
    if home := os.environ.get("RAYFOREST_HOME"):
        return Path(home)
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state) / "rayforest"
    return Path("~/.local/state/rayforest").expanduser()


@contextlib.contextmanager
def _locked_state() -> Iterator[Path]:
    """The state file, while no other process changes it; its folder goes when nothing is in it."""
    folder = _state_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / "cluster.json"
    finally:
        with contextlib.suppress(OSError):  # not empty: a cluster is up, or the user keeps something there
            folder.rmdir()
        os.close(lock)


def _lives(cluster: ClusterInfo) -> bool:
    return not cluster.head.has_ended()


def _remove(cluster: ClusterInfo, file: Path) -> None:
    cluster.head.stop()
    # Only where the keeper was killed is there anything left.
    while left := [process for process in cluster.processes if is_running(process)]:
        for process in left:
            for below in (*descendants(process.pid), process):
                send(below, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(cluster.folder, ignore_errors=True)
    file.unlink(missing_ok=True)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed is free
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port {port} for the dashboard cannot be used",
                expected="a free port of 127.0.0.1",
                found=str(error),
                next_step=f"choose another: rayforest cluster up --dashboard-port {_free_port()}",
            ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write(file: Path, cluster: ClusterInfo) -> None:
    text = CLUSTER.write({**asdict(cluster), "folder": str(cluster.folder)}, indent=2)
    temporary = file.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(text + b"\n")
    temporary.replace(file)


def _read(file: Path) -> ClusterInfo | None:
    try:
        return CLUSTER.read(file.read_bytes(), str(file), _cluster_of)
    except FileNotFoundError:
        return None


def _cluster_of(document: Document) -> ClusterInfo:
    processes = {
        "keeper": ProcessId(**document["keeper"]),
        "processes": tuple(ProcessId(**process) for process in document["processes"]),
    }
    return ClusterInfo(**document | processes | {"folder": Path(document["folder"])})
