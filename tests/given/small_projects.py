"""Small tables and project files that the tests of the stages share."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
import polars as pl

import rayforest
from rayforest.payments import Generated

EXAMPLE = Path(__file__).parents[2] / "jobs" / "examples" / "payments.toml"

COLOURS = ["red", "green", "blue", "Äpfel", "zebra", "Z"]

PROJECT = """
[project]
name = "small"
seed = 3

[data]
source = "raw"
key = "id"
target = "bought"

[features]
amount = "amount"
ratio = "amount / NULLIF(visits, 0)"
colour = "colour"
hour = "EXTRACT(HOUR FROM at)"
is_member = "member"

[tune]
trials = 2

[tune.space]
num_iterations = 12
learning_rate = [0.1, 0.3]
num_leaves = [4, 12]
min_data_in_leaf = 5

[run]
executor = "in-process"
workers = 1
"""


def orders(rows: int, seed: int = 0, first: int = 0) -> pl.DataFrame:
    """Clean rows of every kind of column, with nulls in the features, and targets that the features explain."""
    rng = np.random.default_rng(seed)
    amount, visits = rng.gamma(2.0, 30.0, rows).round(2), rng.integers(0, 6, rows)
    colour = rng.choice(COLOURS, rows, p=[0.4, 0.3, 0.15, 0.08, 0.05, 0.02])
    drive = amount / 40 + (colour == "red") - visits / 3 + rng.normal(0, 0.6, rows)
    seconds = np.sort(rng.integers(0, 30 * 86_400, rows))
    nulls = rng.random((3, rows)) < 0.05
    frame = pl.DataFrame(
        {
            "id": [f"o{i:06d}" for i in range(first, first + rows)],
            "customer": rng.integers(0, max(rows // 5, 1), rows),
            "amount": amount,
            "visits": visits,
            "colour": colour,
            "member": rng.random(rows) < 0.5,
            "at": [dt.datetime(2026, 3, 1) + dt.timedelta(seconds=int(s)) for s in seconds],
            "bought": drive > 1.4,
            "grade": np.array(["c", "b", "a"])[np.digitize(drive, [0.8, 2.0])],
            "level": np.digitize(drive, [0.8, 2.0]) + 3,
            "spent": (drive * 12).round(3),
        }
    )
    return frame.with_columns(
        pl.when(~pl.Series(mask)).then(pl.col(name)).alias(name)
        for name, mask in zip(("amount", "colour", "member"), nulls, strict=True)
    )


def write_orders(folder: Path, frame: pl.DataFrame, files: int = 1, form: str = "parquet") -> Path:
    """The rows in order, in so many files of FOLDER/raw."""
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    size = -(-frame.height // files) or 1
    for number in range(files):
        part, path = frame.slice(number * size, size), raw / f"part-{number:03d}.{form}"
        part.write_parquet(path) if form == "parquet" else part.write_csv(path)
    return raw


def write_project(folder: Path, text: str = PROJECT, **sections: str) -> Path:
    """FOLDER/project.toml: the text, with lines put under the headers of the named sections."""
    for section, lines in sections.items():
        header = f"[{section}]\n"
        text = text.replace(header, f"{header}{lines}\n") if header in text else f"{text}\n{header}{lines}\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "project.toml"
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Payments:
    """Generated payments, and the example project over them."""

    truth: Generated
    settings: tuple[str, ...]

    def at(self, root: Path, *more: str) -> rayforest.Project:
        """The example project with another root."""
        return rayforest.load_project(EXAMPLE, [*self.settings, f'project.root="{root}"', *more])


@dataclass(frozen=True)
class Ran:
    """A project that ran to the end."""

    folder: Path
    project: rayforest.Project
    result: rayforest.RunResult


class Listener:
    """A reporter that keeps what it is told."""

    quiet = True

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)

    def progress(self, step: str, progress: object) -> None:
        pass


def tuned(project: rayforest.Project) -> tuple[lgb.Booster, dict[str, object]]:
    """The booster and metrics.json of a tuned project."""
    paths = {Path(p).name: Path(p) for p in rayforest.files(project.stage("tuned"))}
    return lgb.Booster(model_file=paths["booster.txt"]), json.loads(paths["metrics.json"].read_text())
