"""Jobs of a Ray cluster, through the Ray Jobs API: send one, follow it, list them, stop one."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from rayforest.cluster.dashboard import LIMIT_S, Dashboard
from rayforest.engine.deadline import within
from rayforest.errors import ConfigError, InterruptedRunError, RayforestError, did_you_mean

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

EXIT_CODES = (0, 1, 2, 3, 130)
"""What a rayforest job ends with (INTERFACE); anything else is the shell's or the kernel's."""
PREFIX = "rayforest-"
"""Of the ids of jobs that rayforest has sent."""

_NOISE = re.compile(
    r"^.* job_manager\.py:\d+ -- Runtime env is setting up\.\n|Running entrypoint for job rayforest-.*\n", re.MULTILINE
)
"""What Ray writes into a job's log; the second line may come late, amid a line of the job."""
_RECONNECTS = 30
_POLL_S = 0.5
_STOP_S = 60.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class JobState:
    """A job, as the cluster tells of it."""

    submission_id: str
    status: str
    """pending, running, succeeded, failed or stopped."""
    started: float | None
    """Seconds since 1970."""
    ended: float | None
    exit_code: int | None
    """The job's own, once it has ended."""

    @classmethod
    def of(cls, details: JobDetails) -> JobState:
        """From what Ray says."""

        def seconds(milliseconds: int | None) -> float | None:
            return None if milliseconds is None else milliseconds / 1000

        return cls(
            str(details.submission_id),
            details.status.value.lower(),
            seconds(details.start_time),
            seconds(details.end_time),
            details.driver_exit_code,
        )

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.status in ("succeeded", "failed", "stopped")


class JobsApi:
    """The jobs of one cluster. Made by `connected`, and usable inside its block."""

    def __init__(self, client: JobSubmissionClient, dashboard: Dashboard) -> None:
        self._client, self._dashboard = client, dashboard

    def send(self, submission_id: str, command: str, *, ships: Path | None) -> None:
        """Hand a job over.

        Args:
            submission_id: its id.
            command: shell command that runs it.
            ships: a folder that goes with it, for a cluster that cannot read the files of this machine.

        Raises:
            RayforestError: the cluster does not take it.
        """
        try:
            environment = None if ships is None else {"working_dir": str(ships)}
            self._client.submit_job(entrypoint=command, submission_id=submission_id, runtime_env=environment)
        except (RuntimeError, OSError) as error:
            raise RayforestError(
                "the cluster did not take the job",
                found=_first_line(error),
                next_step="look at the cluster's dashboard, and submit again",
            ) from None

    def ask(self, command: str) -> str:
        """What a short command prints on the head. Its job is forgotten afterwards.

        Raises:
            RayforestError: the cluster does not take it, or does not answer.
        """
        submission_id = f"probe-of-rayforest-{secrets.token_hex(4)}"
        self.send(submission_id, command, ships=None)
        while not self._details(submission_id).status.is_terminal():
            time.sleep(_POLL_S / 2)
        log = self.log(submission_id)
        with suppress(RuntimeError, OSError):  # it stays in the dashboard's list, which harms nobody
            self._client.delete_job(submission_id)
        return log

    def jobs(self) -> list[JobState]:
        """Those that rayforest has sent, the newest first."""
        listed = self._asked(self._client.list_jobs, "the jobs of the cluster")
        ours = [details for details in listed if str(details.submission_id or "").startswith(PREFIX)]
        return [JobState.of(details) for details in sorted(ours, key=lambda d: d.start_time or 0, reverse=True)]

    def state(self, submission_id: str) -> JobState:
        """What the cluster tells of a job.

        Raises:
            ConfigError: it knows no such job.
        """
        known = [job.submission_id for job in self.jobs()]
        if submission_id not in known:
            raise ConfigError(
                f"{self._dashboard.address} knows no job {submission_id}",
                expected="an id of `rayforest jobs`",
                next_step=did_you_mean(submission_id, known) or "see which there are: rayforest jobs",
            )
        return JobState.of(self._details(submission_id))

    def log(self, submission_id: str) -> str:
        """What a job has printed so far."""
        text = self._asked(lambda: self._client.get_job_logs(submission_id), f"job {submission_id}")
        return _NOISE.sub("", text)

    def stop(self, submission_id: str) -> JobState:
        """End a job as Ctrl-C does, and wait until it has ended. One that has ended stays as it is.

        Raises:
            RayforestError: it does not end.
        """
        state = self.state(submission_id)
        if not state.has_ended:
            self._asked(lambda: self._client.stop_job(submission_id), f"job {submission_id}")
            give_up = time.monotonic() + _STOP_S
            while not (state := JobState.of(self._details(submission_id))).has_ended:
                if time.monotonic() > give_up:
                    raise RayforestError(
                        f"job {submission_id} has not ended",
                        expected=f"its end within {_STOP_S:.0f} s",
                        next_step="look at the cluster's dashboard, or stop it again",
                    )
                time.sleep(_POLL_S)
        return state

    def follow(self, submission_id: str, printer: Printer) -> int:
        """Print the log until the job has ended, and return its exit code. A broken connection is opened again.

        Raises:
            RayforestError: the job ended without an exit code of its own, or the cluster does not answer any more.
            InterruptedRunError: it was stopped; or Ctrl-C: the job goes on.
        """
        try:
            return self._follow(submission_id, printer)
        except KeyboardInterrupt:
            raise _interrupted(submission_id, self._dashboard) from None

    def _follow(self, submission_id: str, printer: Printer) -> int:
        details = self._details(submission_id)
        while not details.status.is_terminal():
            try:
                asyncio.run(self._print_log(submission_id, printer))
            except (RuntimeError, OSError):  # aiohttp's connection errors are OSErrors
                time.sleep(1)
            details = self._details(submission_id)
        whole = self._asked(lambda: self._client.get_job_logs(submission_id), f"job {submission_id}")
        printer.take(whole[printer.characters :])  # what came after the last look
        printer.finish()
        if details.driver_exit_code in EXIT_CODES:
            return int(details.driver_exit_code)
        if details.status == "STOPPED":
            raise InterruptedRunError(
                f"job {submission_id} was stopped", next_step="submit it again: finished shards are kept"
            )
        raise RayforestError(
            f"job {submission_id} did not end by itself",
            expected="an exit code of rayforest",
            found=f"exit code {details.driver_exit_code}"
            if details.driver_exit_code is not None
            else _first_line(details.message),
            next_step="submit it again: finished shards are kept",
        )

    async def _print_log(self, submission_id: str, printer: Printer) -> None:
        """Until the job has ended: Ray ends the log only seconds later, so it is asked for its state meanwhile."""
        printing = asyncio.create_task(self._print_lines(submission_id, printer))
        try:
            while not (await asyncio.wait([printing], timeout=_POLL_S))[0]:
                details = await asyncio.to_thread(self._client.get_job_info, submission_id)
                if details.status.is_terminal():
                    return
            await printing
        finally:
            printing.cancel()

    async def _print_lines(self, submission_id: str, printer: Printer) -> None:
        skip = printer.characters  # the log begins anew with every connection
        async for text in self._client.tail_job_logs(submission_id):
            if len(text) > skip:
                printer.take(text[skip:])
            skip = max(skip - len(text), 0)

    def _details(self, submission_id: str) -> JobDetails:
        return self._asked(lambda: self._client.get_job_info(submission_id), f"job {submission_id}")

    def _asked(self, request: Callable[[], _T], what: str) -> _T:
        """The answer to a question, asked again while the cluster does not answer."""
        for _ in range(_RECONNECTS):
            try:
                return request()
            except OSError:  # requests' connection errors are OSErrors
                time.sleep(1)
            except RuntimeError as error:
                raise RayforestError(
                    f"the cluster does not know {what}",
                    found=_first_line(error),
                    next_step="look at the cluster's dashboard; if the job is not there, submit it again: finished "
                    "shards are kept",
                ) from None
        raise RayforestError(
            f"the cluster does not answer when asked for {what}, which may still run",
            next_step=f"check the connection, and ask again: rayforest jobs {self._dashboard.option}; if the cluster "
            "is gone, submit it to another one: finished shards are kept",
        )


class Printer:
    """Passes a job's output on, line by line, each once; with json, holds back the result."""

    def __init__(self, output: TextIO, *, json_output: bool) -> None:
        self.result: dict[str, Any] | None = None
        self.characters = 0
        """Characters of the job's log that were taken so far."""
        self._output, self._json_output = output, json_output
        self._partial = ""

    def take(self, text: str) -> None:
        """Print the lines that are whole."""
        self.characters += len(text)
        *lines, self._partial = _NOISE.sub("", self._partial + text).split("\n")
        for line in lines:
            self._line(line + "\n")
        self._output.flush()

    def finish(self) -> None:
        """Print what is left of the last line."""
        if self._partial:
            self._line(self._partial)
        self._output.flush()

    def _line(self, line: str) -> None:
        if self._json_output and line.startswith("{"):
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if isinstance(value, dict) and "command" in value:
                self.result = value
                return
        self._output.write(line)


@contextmanager
def connected(dashboard: Dashboard) -> Iterator[JobsApi]:
    """The jobs of a dashboard that has said its version.

    Raises:
        RayforestError: it takes no jobs.
    """
    from ray.job_submission import JobSubmissionClient

    for told in ("dashboard.modules.job.sdk", "dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{told}").setLevel(logging.WARNING)  # they tell of every connection and upload
    with _only_this_dashboard(dashboard):
        try:
            client = within(LIMIT_S, lambda: JobSubmissionClient(dashboard.address, headers=dashboard.headers))
        except (RuntimeError, OSError) as error:
            raise RayforestError(
                f"{dashboard.address} takes no jobs",
                found=_first_line(error),
                next_step="look at the cluster's dashboard, and submit again",
            ) from None
        yield JobsApi(client, dashboard)


@contextmanager
def _only_this_dashboard(dashboard: Dashboard) -> Iterator[None]:
    """Hide what would lead Ray's client elsewhere: its address variables, and proxies for this machine."""
    hidden = {"RAY_ADDRESS": None, "RAY_API_SERVER_ADDRESS": None}
    bypass = ",".join(filter(None, (os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), dashboard.host)))
    changes: dict[str, str | None] = {**hidden, **({"no_proxy": bypass} if dashboard.is_loopback else {})}
    before = {name: os.environ.get(name) for name in changes}
    try:
        _set_environment(changes)
        yield
    finally:
        _set_environment(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _interrupted(submission_id: str, dashboard: Dashboard) -> InterruptedRunError:
    where = f"{submission_id} {dashboard.option}"
    return InterruptedRunError(
        f"stopped following; job {submission_id} goes on",
        next_step=f"follow it with: rayforest logs {where} --follow\n            stop it with: rayforest stop {where}",
    )


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
