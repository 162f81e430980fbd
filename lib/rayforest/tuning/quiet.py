"""LightGBM without its own messages: what matters of them reaches the user as an error, a note or a metric."""

from __future__ import annotations

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
