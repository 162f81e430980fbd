"""What decides the bytes of a result beside inputs and settings: the versions of the code that computes it.

A driver and its workers must have the same ones. Ray sees to its own version and to Python's; the rest is compared
here, when a worker gets its first task, before anything of the driver's is unpickled there.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from rayforest.errors import ConfigError

PACKAGES = ("rayforest", "pyarrow", "polars", "numpy", "lightgbm", "onnx", "onnxruntime", "numba")

Versions = dict[str, str]
"""Package, or "Python", -> version; "none" where it is not installed."""


@lru_cache(maxsize=1)
def installed() -> Versions:
    """Those of this process."""
    return {"Python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def refuse_others(driver: Versions) -> None:
    """Refuse to work for a driver of other versions.

    Raises:
        ConfigError: names both, and this node.
    """
    here = installed()
    others = [name for name in driver if here.get(name, "none") != driver[name]]
    if others:
        raise ConfigError(
            f"a worker on node {platform.node()} has other packages than the driver",
            expected=", ".join(f"{name} {driver[name]}" for name in others),
            found=", ".join(f"{name} {here.get(name, 'none')}" for name in others),
            next_step="give all nodes the driver's environment, for example one container image for all; finished "
            "shards are kept",
        )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
