"""The tree kernel: any tree ensemble of ONNX, scored many rows at a time, with the bits of onnxruntime."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayforest.forest.forest import Forest

__all__ = ["Forest"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("rayforest.forest.forest"), name)
