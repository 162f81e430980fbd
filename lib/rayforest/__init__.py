"""Distributed batch machine learning for tables, on Ray.

    import rayforest

    rayforest.prepare("project.toml")
    rayforest.tune("project.toml")
    rayforest.export("project.toml")
    rayforest.score("project.toml")
    rayforest.read("out/scored").collect()

Every name below is imported when it is first used, so `import rayforest` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayforest.api import RunResult, dataset, export, files, init, prepare, read, run, score, show, trace, tune
    from rayforest.checking.check import check
    from rayforest.errors import RayforestError
    from rayforest.payments import generate_payments
    from rayforest.project.load import load_project
    from rayforest.project.sections import Project
    from rayforest.stages.result import StageResult
    from rayforest.starter.starter import starter_project

__version__ = "0.1.0"

_HOME = {
    "Project": "rayforest.project.sections",
    "RayforestError": "rayforest.errors",
    "RunResult": "rayforest.api",
    "StageResult": "rayforest.stages.result",
    "check": "rayforest.checking.check",
    "dataset": "rayforest.api",
    "export": "rayforest.api",
    "files": "rayforest.api",
    "generate_payments": "rayforest.payments",
    "init": "rayforest.api",
    "load_project": "rayforest.project.load",
    "prepare": "rayforest.api",
    "read": "rayforest.api",
    "run": "rayforest.api",
    "score": "rayforest.api",
    "show": "rayforest.api",
    "starter_project": "rayforest.starter.starter",
    "trace": "rayforest.api",
    "tune": "rayforest.api",
}

__all__ = [
    "Project",
    "RayforestError",
    "RunResult",
    "StageResult",
    "check",
    "dataset",
    "export",
    "files",
    "generate_payments",
    "init",
    "load_project",
    "prepare",
    "read",
    "run",
    "score",
    "show",
    "starter_project",
    "trace",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
