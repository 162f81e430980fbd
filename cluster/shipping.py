"""What goes to a cluster that cannot read this machine's files: the project file, and this rayforest where the cluster
has none or another one. Nothing else goes.

It is one folder. Ray packs it, keeps it on the head by its hash, and unpacks it on each node that works for the job, as
the working folder and first on PYTHONPATH. rayforest lies in it as a wheel holds it, code and metadata. A wheel itself
Ray would give to pip, which fetches everything that the wheel requires, whether the nodes have it or not.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution, requires, version
from pathlib import Path

import rayforest
from rayforest.errors import ConfigError

_ANSWER = "rayforest-probe "


@dataclass(frozen=True)
class Shipment:
    """A folder that goes to a cluster."""

    folder: Path
    contents: Mapping[str, int]
    """What is in it -> bytes."""

    def __str__(self) -> str:
        return " and ".join(f"{name} ({_readable(size)})" for name, size in self.contents.items())


@dataclass(frozen=True)
class Installed:
    """What the Python of a cluster's head has."""

    python: str
    packages: Mapping[str, str]
    """Package -> version, without those that are not installed."""

    @property
    def lacks_this_rayforest(self) -> bool:
        """Whether it has none, or another version."""
        return self.packages.get("rayforest") != version("rayforest")

    def refuse_if_unfit(self, cluster: str) -> None:
        """Refuse a Python that could not run this rayforest.

        Raises:
            ConfigError: it lacks packages.
        """
        lacking = [name for name in _required() if name not in self.packages]
        if lacking:
            raise ConfigError(
                f"the Python of the cluster at {cluster} lacks packages that rayforest needs",
                expected=", ".join(lacking),
                found=f"none of them, in Python {self.python}",
                next_step="give its nodes an image that has them: `rayforest cluster render` writes a Dockerfile",
            )

    def __str__(self) -> str:
        found = self.packages.get("rayforest")
        return f"rayforest {found}" if found else "no rayforest"


def probe() -> str:
    """Python code that says, on a cluster, what is installed there: see `read_probe`."""
    return (
        "import json, platform\n"
        "from importlib.metadata import PackageNotFoundError, version\n"
        "found = {}\n"
        f"for name in {['rayforest', *_required()]!r}:\n"
        "    try:\n"
        "        found[name] = version(name)\n"
        "    except PackageNotFoundError:\n"
        "        pass\n"
        f"print({_ANSWER!r} + json.dumps([platform.python_version(), found]))\n"
    )


def read_probe(log: str, cluster: str) -> Installed:
    """What the probe has printed.

    Raises:
        ConfigError: it did not come to that.
    """
    for line in log.splitlines():
        if line.startswith(_ANSWER):
            python, packages = json.loads(line.removeprefix(_ANSWER))
            return Installed(python, packages)
    raise ConfigError(
        f"the cluster at {cluster} has no Python that jobs can use",
        expected="`python` on the PATH of its head",
        found=(log.strip().splitlines() or ["no output"])[-1][:300],
        next_step="give its nodes an image that has it: `rayforest cluster render` writes a Dockerfile",
    )


@contextmanager
def staged(project: Path, *, with_rayforest: bool) -> Iterator[Shipment]:
    """A folder with what ships, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="rayforest-ship-") as name:
        folder = Path(name)
        shutil.copyfile(project, folder / project.name)
        contents = {project.name: project.stat().st_size}
        if with_rayforest:
            contents[f"rayforest {version('rayforest')}"] = _copy_rayforest(folder)
        yield Shipment(folder, contents)


def _copy_rayforest(folder: Path) -> int:
    home, metadata = folder / "rayforest", folder / f"rayforest-{version('rayforest')}.dist-info"
    shutil.copytree(Path(rayforest.__file__).parent, home, ignore=shutil.ignore_patterns("__pycache__"))
    metadata.mkdir()
    (metadata / "METADATA").write_text(distribution("rayforest").read_text("METADATA") or "", encoding="utf-8")
    return sum(file.stat().st_size for part in (home, metadata) for file in part.rglob("*") if file.is_file())


def _required() -> list[str]:
    """Names of the packages without which rayforest does not run."""
    lines = [line for line in requires("rayforest") or [] if "extra ==" not in line]
    return [match[0] for line in lines if (match := re.match(r"[A-Za-z0-9._-]+", line))]


def _readable(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB" if size >= 1e3 else f"{size} bytes"
