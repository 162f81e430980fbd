"""Says when the kernel is compiled, which takes seconds, and happens once on a machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event

_log = logging.getLogger("rayforest.forest")


class _Listener(event.Listener):
    """Hears Numba compile; what comes from the cache on disk is not compiled."""

    def __init__(self) -> None:
        self._depth = 0
        self._began = 0.0

    def on_start(self, event: Any) -> None:  # noqa: ARG002
        if self._depth == 0:
            self._began = time.monotonic()
            _log.info("compiling the tree kernel for this CPU; it is kept for later processes")
        self._depth += 1

    def on_end(self, event: Any) -> None:  # noqa: ARG002
        self._depth -= 1
        if self._depth == 0:
            _log.info("compiled the tree kernel in %.1f s", time.monotonic() - self._began)


@contextmanager
def say_when_compiling() -> Iterator[None]:
    """Log a line when anything inside has to be compiled."""
    with event.install_listener("numba:compile", _Listener()):
        yield
