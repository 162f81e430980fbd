"""Who did an attempt, and when: kept beside its outcome for whoever asks. No byte of a result depends on it."""

from __future__ import annotations

import os
import platform
import threading
import time
from dataclasses import dataclass

from rayforest.formats import Document


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt's time and place."""

    run: str
    """Of the command that asked for it, as its log names it; empty outside of a command."""
    began: float
    """Seconds since 1970 on the worker's clock."""
    seconds: float
    host: str
    pid: int
    thread: int
    """As the system numbers it: a thread does one attempt at a time."""


class WorkClock:
    """Starts with an attempt, in its thread."""

    def __init__(self, run: str) -> None:
        self._run, self._began, self._since = run, time.time(), time.monotonic()

    def work(self) -> Work:
        """Until now."""
        seconds = time.monotonic() - self._since
        return Work(self._run, round(self._began, 6), round(seconds, 6), *_place())


def _place() -> tuple[str, int, int]:
    return platform.node(), os.getpid(), threading.get_native_id()


def work_of(document: Document) -> Work | None:
    """What a document says under `work`; documents of earlier versions say nothing."""
    found = document.get("work")
    return None if found is None else Work(**found)
