"""Timing that holds on a noisy machine: contenders in turn, medians, and ratios round by round."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SLOW_SECONDS = 20.0
SLOW_ROUNDS = 2


@dataclass(frozen=True)
class Timing:
    """One contender's seconds, one a round."""

    name: str
    settings: str
    """What a reader needs to judge whether this is its best honest form."""
    seconds: tuple[float, ...]
    """Of the first rounds; of fewer than the others have where it is slow."""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def ratio_to(self, other: Timing) -> float:
        """Median of this contender's seconds over the other's in the same round: above 1 where the other is faster."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=False))


def interleaved(
    contenders: Mapping[str, tuple[str, Callable[[], object]]], rounds: int, *, warm: bool = False
) -> list[Timing]:
    """Time each contender once a round, in turn, after one round that does not count.

    A contender whose first round that counts takes over SLOW_SECONDS sits out those after SLOW_ROUNDS.

    Args:
        contenders: name -> (settings, what to time).
        rounds: that count.
        warm: each has run already; every round counts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(1 if warm else 0, rounds + 1):
        for name, (_, work) in contenders.items():
            if turn > SLOW_ROUNDS and seconds[name][0] > SLOW_SECONDS:
                continue
            began = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return [Timing(name, settings, tuple(seconds[name])) for name, (settings, _) in contenders.items()]


def table(timings: list[Timing], rows: int | None = None) -> str:
    """A Markdown table; the others are compared with the first."""
    first = timings[0]
    lines = [
        f"| contender | median s | min-max | rounds | rows/s | {first.name} is faster by | settings |",
        "|---|---|---|---|---|---|---|",
    ]
    for t in timings:
        pace = f"{rows / t.median:,.0f}" if rows else ""
        ratio = "" if t is first else f"{t.ratio_to(first):.2f}x"
        span = f"{min(t.seconds):.2f}-{max(t.seconds):.2f}"
        lines.append(f"| {t.name} | {t.median:.2f} | {span} | {len(t.seconds)} | {pace} | {ratio} | {t.settings} |")
    return "\n".join(lines)


def machine() -> dict[str, object]:
    """What the figures depend on, without the machine's name."""
    packages = ("ray", "pyarrow", "polars", "lightgbm", "onnxruntime", "numpy", "rayforest")
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "machine": platform.machine(),
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in packages},
    }


def write(name: str, document: Mapping[str, object], markdown: str, *, quick: bool) -> None:
    """The table on standard output, and benchmarks/results/NAME.json and NAME.md unless the run was a quick one."""
    print(markdown)
    if quick:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), **document}, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(markdown.rstrip() + "\n")


def as_json(timings: list[Timing]) -> list[dict[str, object]]:
    """For the JSON document."""
    return [asdict(t) | {"median": t.median} for t in timings]
