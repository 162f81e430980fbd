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
    from rayforest.api import RunResult, dataset, export, files, init, prepare, read, run, score, show, tune
    from rayforest.checking import check
    from rayforest.data.payments import generate_payments
    from rayforest.data.starter import starter_project
    from rayforest.errors import RayforestError
    from rayforest.project import Project, load_project
    from rayforest.report import StageResult

__version__ = "0.1.0"

_HOME = {
    "Project": "rayforest.project",
    "RayforestError": "rayforest.errors",
    "RunResult": "rayforest.api",
    "StageResult": "rayforest.report",
    "check": "rayforest.checking",
    "dataset": "rayforest.api",
    "export": "rayforest.api",
    "files": "rayforest.api",
    "generate_payments": "rayforest.data.payments",
    "init": "rayforest.api",
    "load_project": "rayforest.project",
    "prepare": "rayforest.api",
    "read": "rayforest.api",
    "run": "rayforest.api",
    "score": "rayforest.api",
    "show": "rayforest.api",
    "starter_project": "rayforest.data.starter",
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
