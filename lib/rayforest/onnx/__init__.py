"""Model and features to exact ONNX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayforest.onnx.parity import ParityEvidence, check_parity
    from rayforest.onnx.runtime import check_safe, rows_a_call, runtime_session
    from rayforest.onnx.sklearn import to_onnx
    from rayforest.onnx.tree_ensemble import from_lightgbm

__all__ = ["ParityEvidence", "check_parity", "check_safe", "from_lightgbm", "rows_a_call", "runtime_session", "to_onnx"]

_HOME = {
    "ParityEvidence": "rayforest.onnx.parity",
    "check_parity": "rayforest.onnx.parity",
    "check_safe": "rayforest.onnx.runtime",
    "rows_a_call": "rayforest.onnx.runtime",
    "runtime_session": "rayforest.onnx.runtime",
    "to_onnx": "rayforest.onnx.sklearn",
    "from_lightgbm": "rayforest.onnx.tree_ensemble",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
