"""Start a Ray head on this machine that is private, closed to the network, and sure to end.

One way for both uses: the Ray executor's own Ray, which ends with its driver however that ends, and the local
cluster of `rayforest cluster up`, which is kept until `down`. Nothing here imports Ray: the head is `ray start`,
held by `keeper`.

Everything of a head lies in one folder of its own (mode 0700), which the keeper removes:

    token       the secret that every client of this Ray must show (mode 0600)
    ray/        Ray's temporary folder: sessions, sockets, logs
    head.log    what `ray start` printed
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayforest.engine.processes import ProcessId, identify, is_running, send
from rayforest.errors import RayforestError
from rayforest.process_settings import KEPT_MEMORY

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.05

SAFE_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Under `uv run`, Ray would ship the working directory, with whatever lies in it, to its workers.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""Environment of every process that starts, joins or talks to Ray."""

_THIS_MACHINE_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, Ray stays on the loopback, servers and clients alike. Not so by default on Linux, where Ray replaces even
an explicit 127.0.0.1 by the machine's address."""

_HEAD_SETTINGS = {
    _THIS_MACHINE_ONLY: "0",
    # The Ray Client server is one more open port, and nothing here uses it.
    "RAY_START_HOOK": "rayforest.engine.own_ray.head.without_ray_client",
    # Two servers of metrics have fixed ports; any free one lets several clusters live on one machine.
    "AUTOSCALER_METRIC_PORT": "0",
    "DASHBOARD_METRIC_PORT": "0",
    # `ray start --block` would wait this long for busy workers when it is told to stop.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}
_FOREIGN_SETTINGS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR")
"""Variables that would tie a new head to another cluster."""

_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""For how long Ray's processes wait for a head that does not answer; then they end themselves."""
_PATIENCE_S = 60.0
"""Ray's default."""
_LEFT_TO_US_S = 600.0
"""More time for a driver: it says what has happened, or finishes what needs no Ray any more."""

_started: dict[int, subprocess.Popen[bytes]] = {}
"""Keepers that are children of this process, to be reaped."""

FOLDER_PREFIX = "rayforest-"
_LONGEST_FOLDER = 40  # characters: a socket's path ends at 104 (macOS) or 108, and Ray adds up to 62


@dataclass(frozen=True)
class RayHead:
    """A running Ray head."""

    address: str
    """Host and port for `ray.init(address=...)`."""
    folder: Path
    keeper: ProcessId

    @property
    def token(self) -> Path:
        """The file with the secret of this Ray."""
        return self.folder / "token"

    def keep(self) -> None:
        """Let this Ray outlive the process that started it."""
        (self.folder / "kept").touch()

    def has_ended(self) -> bool:
        """Whether Ray ended by itself (its folder and logs are still there), or the keeper is gone."""
        return (self.folder / "ended").exists() or not is_running(self.keeper)

    def stop(self) -> None:
        """End every process of this Ray and remove its folder. Returns when that is done."""
        send(self.keeper, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while is_running(self.keeper):
            if time.monotonic() > deadline:
                raise RayforestError(
                    f"the keeper of this Ray (process {self.keeper.pid}) did not end in {STOP_TIMEOUT_S:.0f} s",
                    next_step=f"look at its children with: ps --ppid {self.keeper.pid}",
                )
            time.sleep(POLL_S)
        if child := _started.pop(self.keeper.pid, None):
            child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_head(*, cpus: int | None = None, dashboard_port: int | None = None, cwd: Path | None = None) -> RayHead:
    """Start a Ray head that ends with this process, unless `RayHead.keep` is called.

    All its ports are bound to 127.0.0.1 and, but for the dashboard's, chosen by the system; clients must show the
    token; usage statistics are off.

    Args:
        cpus: CPUs that Ray may hand out; those of the machine by default.
        dashboard_port: a free port for dashboard and Jobs API; none of both by default (the head starts faster).
        cwd: working folder of the head and so of workers; this process's by default.

    Raises:
        RayforestError: Ray did not start; the message ends with what it printed last.
    """
    folder = _private_folder()
    _write_secret(folder / "token")
    arguments = [
        *("--head", "--block", "--port=0", "--disable-usage-stats"),
        *(f"--temp-dir={folder / 'ray'}", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"),
        *("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"),
        f"--include-dashboard={'false' if dashboard_port is None else 'true'}",
        *([] if dashboard_port is None else [f"--dashboard-port={dashboard_port}"]),
        *([] if cpus is None else [f"--num-cpus={cpus}"]),
    ]
    environment = KEPT_MEMORY | {k: v for k, v in os.environ.items() if k not in _FOREIGN_SETTINGS}
    environment |= SAFE_SETTINGS | _HEAD_SETTINGS | {"RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    python = (sys.executable, "-P", "-m")  # -P: nothing in the working folder takes the place of a module
    command = (*python, "ray.scripts.scripts", "start", *arguments)
    process = subprocess.Popen(
        [*python, "rayforest.engine.own_ray.keeper", str(folder), str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C at the terminal is for the driver, which then stops its Ray in order
        env=environment,
        cwd=cwd,
    )
    try:
        head = _wait_until_ready(process, folder)
    except BaseException:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _started[process.pid] = process
    return head


def client_settings(token: Path | None) -> dict[str, str]:
    """Environment of a safe client of Ray: see `present_token`."""
    if token is not None:
        return {**SAFE_SETTINGS, "RAY_AUTH_TOKEN_PATH": str(token), _THIS_MACHINE_ONLY: "0"}
    if "RAY_AUTH_MODE" in os.environ or not _has_token():
        return {name: value for name, value in SAFE_SETTINGS.items() if name != "RAY_AUTH_MODE"}
    return dict(SAFE_SETTINGS)


@contextmanager
def present_token(token: Path | None) -> Iterator[None]:
    """Make this process a safe client of Ray, and put its environment back at the end.

    Subprocesses that are started meanwhile inherit the settings.

    Args:
        token: of a head that `start_head` started; this process then also looks for Ray on the loopback.
            None for another cluster, for which Ray's own rules find the token: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH,
            ~/.ray/auth_token. Where there is none, the mode is left as it is.
    """
    hidden = ("RAY_AUTH_TOKEN",) if token is not None else ()  # it would win over the file
    with _environment(client_settings(token), hidden):
        yield


@contextmanager
def stay_on_loopback() -> Iterator[None]:
    """Make this process look for Ray on the loopback, as `present_token` does for a head of ours."""
    with _environment({_THIS_MACHINE_ONLY: "0"}):
        yield


def patience_with_head_s() -> float:
    """How long a head that does not answer is waited for: it may have a store of its own, and come back."""
    with suppress(ValueError):  # Ray says what it makes of it
        return float(os.environ.get(_PATIENCE, _PATIENCE_S))
    return _PATIENCE_S


@contextmanager
def connect_once() -> Iterator[None]:
    """Let `ray.init` try to reach a cluster once (about 40 s), not twenty times, unless the user says how long."""
    name = "RAY_gcs_server_port_wait_time_s"
    with _environment({} if name in os.environ else {name: "1"}):
        yield


@contextmanager
def survive_head() -> Iterator[None]:
    """Let this process see to itself when the head is gone. Ray would end it after its patience, without an error."""
    with _environment({_PATIENCE: f"{patience_with_head_s() + _LEFT_TO_US_S:.0f}"}):
        yield


@contextmanager
def _environment(settings: dict[str, str], hidden: tuple[str, ...] = ()) -> Iterator[None]:
    names = {*settings, *hidden}
    before = {name: os.environ[name] for name in names if name in os.environ}
    for name in hidden:
        os.environ.pop(name, None)
    os.environ.update(settings)
    _reread_settings()
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
        _reread_settings()


def without_ray_client(ray_params: object, _head: bool) -> None:
    """Called by `ray start` (RAY_START_HOOK) before it starts anything."""
    ray_params.ray_client_server_port = None  # type: ignore[attr-defined]  # Ray's class has no annotations


def _has_token() -> bool:
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or Path("~/.ray/auth_token").expanduser().exists()


def _reread_settings() -> None:
    """Ray reads these settings once, on import: if that was earlier, refresh them as Ray itself does."""
    if "ray" not in sys.modules:
        return
    raylet: Any = sys.modules["ray._raylet"]
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
    constants: Any = sys.modules["ray._private.ray_constants"]
    constants.ENABLE_RAY_CLUSTER = constants.env_bool(_THIS_MACHINE_ONLY, not constants.IS_WINDOWS_OR_OSX)


def _private_folder() -> Path:
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) + len(FOLDER_PREFIX) + 9 > _LONGEST_FOLDER:
        parent = Path("/tmp")  # noqa: S108  mkdtemp makes a folder of a new name for this user alone
    return Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))


def _write_secret(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path) -> RayHead:
    address_file = folder / "ray" / "ray_current_cluster"  # `ray start` writes it last
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (address := address_file.read_text(encoding="ascii") if address_file.exists() else ""):
        ended = process.poll() is not None or (folder / "ended").exists()
        if ended or time.monotonic() > deadline:
            log = folder / "head.log"
            printed = log.read_text(encoding="utf-8", errors="replace").strip() if log.exists() else ""
            raise RayforestError(
                "Ray did not start on this machine",
                expected=f"a head within {START_TIMEOUT_S:.0f} s",
                found=printed.splitlines()[-1] if printed else "no output",
                next_step="run without Ray (--set run.executor=in-process), or try `ray start --head` by hand",
            )
        time.sleep(POLL_S)
    keeper = identify(process.pid)
    if keeper is None:
        raise RayforestError("Ray ended as soon as it had started", next_step="try again")
    return RayHead(address=address, folder=folder, keeper=keeper)
