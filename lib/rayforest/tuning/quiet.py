"""LightGBM without its own messages: what matters of them reaches the user as an error, a note or a metric."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import lightgbm as lgb


class _Quiet:
    def info(self, message: str) -> None:
        """Nothing."""

    def warning(self, message: str) -> None:
        """Nothing."""


def quiet_lightgbm() -> None:
    """What it would print, and what it would warn of in Python: in the calling thread, for its C library has one
    receiver of messages a thread, and writes to standard output where there is none.
    """
    lgb.register_logger(_Quiet())
    library = lgb.basic._LIB  # type: ignore[attr-defined]
    library.LGBM_RegisterLogCallback(library.callback)


_silencing = threading.Lock()


@contextmanager
def silence() -> Iterator[None]:
    """Keep LightGBM's C library from the user's terminal: it writes its fatal errors to standard error itself, and what
    its own threads say to standard output.
    """
    with _silencing:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [os.dup(1), os.dup(2)]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            for number in (1, 2):
                os.dup2(nowhere, number)
            yield
        finally:
            for number, before in zip((1, 2), kept, strict=True):
                os.dup2(before, number)
                os.close(before)
            os.close(nowhere)
