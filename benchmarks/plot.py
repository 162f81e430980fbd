"""Draw what the benchmarks measured: docs/figures/score_path.svg and tree_kernel.svg, from the JSON in results/.

    python -m benchmarks.plot

The same JSON and matplotlib give the same bytes. A result that is not there is not drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
OURS, PEER, LIMIT = "#c2410c", "#8b95a1", "#d7dce1"
KERNEL_SHAPES = {"100 x 31, 40 features": "100 trees x 31", "500 x 127, 40 features": "500 trees x 127"}


@dataclass(frozen=True)
class Bar:
    """A contender."""

    label: str
    value: float
    text: str
    """The value as it stands at the bar's end."""
    color: str


@dataclass(frozen=True)
class Panel:
    """Bars in their order, from the top."""

    title: str
    bars: Sequence[Bar]


def main() -> int:
    """Draw what is there; exit code 1 if matplotlib is missing."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, panels_of in {"score_path": score_path, "tree_kernel": tree_kernel}.items():
        source = RESULTS / f"{name}.json"
        if not source.exists():
            print(f"{source.name} is not there: not drawn", file=sys.stderr)
            continue
        panels, note = panels_of(json.loads(source.read_text(encoding="utf-8")))
        try:
            draw(panels, note, FIGURES / f"{name}.svg")
        except ModuleNotFoundError as error:
            print(f"{error.name} is not installed: pip install 'rayforest[bench]'", file=sys.stderr)
            return 1
        print(f"{name}.svg")
    return 0


def score_path(document: dict[str, Any]) -> tuple[list[Panel], str]:
    """Rows a second of each contender, the fastest first."""
    rows = document["rows"]
    bars = []
    for timing in document["contenders"]:
        name, pace = timing["name"], rows / timing["median"]
        color = LIMIT if name == "floor" else OURS if name.startswith("rayforest") else PEER
        bars.append(Bar("floor (read, trees, write)" if name == "floor" else name, pace, _short(pace), color))
    note = f"{rows:,} rows x 36 float32 features, 100 trees x 31 leaves, two workers."
    if document["left_out"]:
        note += f" Left out: {'; '.join(document['left_out'])}."
    title = "Rows a second, Parquet to Parquet (more is better)"
    return [Panel(title, sorted(bars, key=lambda bar: -bar.value))], note


def tree_kernel(document: dict[str, Any]) -> tuple[list[Panel], str]:
    """Microseconds a row of each contender, the fastest first; a star where scores are not LightGBM's."""
    results = {result["shape"]["name"]: result for result in document["results"]}
    panels = []
    for shape, model in KERNEL_SHAPES.items():
        result = results[shape]
        bars = []
        for name, micros in sorted(result["microseconds_a_row"].items(), key=lambda item: item[1]):
            ours = name.startswith("kernel")
            star = "" if result["agrees"][name] == "every bit" else " *"
            label = f"rayforest {name}" if ours else name
            bars.append(Bar(label + star, micros, f"{micros:#.3g}".rstrip("."), OURS if ours else PEER))
        panels.append(Panel(f"{model} leaves: us a row (less is better)", bars))
    return panels, "40 features, CPU time on one thread. * Other scores than LightGBM's."


def draw(panels: Sequence[Panel], note: str, target: Path) -> None:
    """Panels below each other, linear from zero; on white, so that they read on a dark page too.

    Raises:
        ModuleNotFoundError: matplotlib is missing.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text as text: small, searchable, and the bytes do not hang on a font's outlines.
    mpl.rcParams.update({"svg.hashsalt": target.stem, "svg.fonttype": "none", "font.size": 9})
    heights = [len(panel.bars) + 1.5 for panel in panels]
    figure = Figure(figsize=(8, 0.26 * sum(heights) + 0.2), facecolor="white", layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        places = range(len(panel.bars))
        values, colors = [bar.value for bar in panel.bars], [bar.color for bar in panel.bars]
        drawn = axis.barh(places, values, color=colors, height=0.7)
        axis.bar_label(drawn, [bar.text for bar in panel.bars], padding=4)
        axis.set_yticks(places, [bar.label for bar in panel.bars])
        for label, bar in zip(axis.get_yticklabels(), panel.bars, strict=True):
            label.set_fontweight("bold" if bar.color == OURS else "normal")
        axis.invert_yaxis()
        axis.set_xlim(0, 1.1 * max(values))
        axis.set_title(panel.title, loc="left", fontsize=10)
        axis.tick_params(left=False)
        axis.xaxis.set_visible(False)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color="#57606a")
    figure.savefig(target, metadata={"Date": None, "Creator": None})


def _short(pace: float) -> str:
    return f"{pace / 1e6:.2f} M" if pace >= 1e6 else f"{pace / 1e3:,.0f} k"


if __name__ == "__main__":
    sys.exit(main())
