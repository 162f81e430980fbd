"""Whether a metric is defined on the rows that it is measured on, known from the prepared counts before any training.

A metric that is not defined is not a score: the AUC of rows of one class is no 1.0, and would win.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rayforest.errors import InputError
from rayforest.features.parts import part_facts, part_lines
from rayforest.features.profile import Profile
from rayforest.metrics.problem import Problem
from rayforest.project.sections import CLASS_METRICS, SplitSection

NEEDS_ALL_CLASSES = ("auc", "average_precision")
_SHOWN_LABELS = 3
_FEW_ROWS = 5


def refuse_undefined(problem: Problem, profile: Profile, split: SplitSection) -> None:
    """Refuse a search whose metric the validation rows do not define.

    Raises:
        InputError: they lack a class that the metric needs.
    """
    counts = class_counts(problem, profile, "valid")
    if counts is None or problem.metric not in NEEDS_ALL_CLASSES:
        return
    missing = [problem.name_of(i) for i, rows in enumerate(counts) if not rows]
    if missing:
        raise _undefined(problem, missing, found="; ".join(part_lines(part_facts(profile))), next_step=ways_out(split))


def refuse_missing_classes(problem: Problem, present: Sequence[float]) -> None:
    """The same for the class numbers that the validation rows turn out to have, where labels were too many to count.

    Raises:
        InputError: they lack a class that the metric needs.
    """
    missing = [problem.name_of(i) for i in range(len(problem.labels)) if i not in present]
    if missing and problem.metric in NEEDS_ALL_CLASSES:
        raise _undefined(problem, missing, found="", next_step=ways_out(None))


def class_counts(problem: Problem, profile: Profile, part: str) -> list[int] | None:
    """Rows of a part by class, in the order of the problem's labels; None where labels were not counted."""
    if problem.kind == "regression" or profile.many_labels:
        return None
    labels = profile.labels.get(part, Counter())
    if problem.positive is not None:
        positive = sum(rows for text, rows in labels.items() if _is(text, problem.positive))
        return [sum(labels.values()) - positive, positive]
    return [sum(rows for text, rows in labels.items() if _is(text, label)) for label in problem.labels]


def weaknesses(problem: Problem, profile: Profile) -> list[str]:
    """What is known of the metrics before they are measured: classes that held-out rows lack or hardly have."""
    notes = []
    for part in ("valid", "test"):
        counts = class_counts(problem, profile, part)
        if counts is None or not sum(counts):
            continue
        missing = [problem.name_of(i) for i, rows in enumerate(counts) if not rows]
        if missing:
            undefined = [m for m in NEEDS_ALL_CLASSES if m == "auc" or problem.kind == "binary"]
            told = f"{' and '.join(undefined)} {'are' if len(undefined) > 1 else 'is'} not defined there"
            notes.append(f"the {part} part has no row of {_listed(missing)}: {told}, and other metrics tell little")
        elif problem.kind == "binary" and min(counts) < _FEW_ROWS:
            rarest = min(range(2), key=lambda i: counts[i])
            rows = f"{counts[rarest]} row{'s' if counts[rarest] > 1 else ''}"
            notes.append(f"the {part} part has only {rows} of {problem.name_of(rarest)}: its metrics hang on them")
    return notes


def ways_out(split: SplitSection | None) -> str:
    """What to do about a part that lacks a class: nothing here stratifies."""
    ways = ["more rows of that label", "other split.shares"]
    if split is not None:
        ways += ['split.by = "hash"'] if split.by == "time" else ["another project.seed", 'split.by = "time"']
    return ", or ".join(ways) + " (the split follows the time or the key; it does not stratify by label)"


def _undefined(problem: Problem, missing: Sequence[str], *, found: str, next_step: str) -> InputError:
    defined = [m for m in CLASS_METRICS if m not in NEEDS_ALL_CLASSES]
    metrics = " or ".join(f'tune.metric = "{metric}"' for metric in defined)
    return InputError(
        f"{problem.metric} is not defined on the valid part, which has no row of {_listed(missing)}",
        expected="rows of every label to compare trials on",
        found=found,
        next_step=f"{metrics}, which such rows define; or {next_step}",
    )


def _listed(labels: Sequence[str]) -> str:
    shown = list(labels[:_SHOWN_LABELS])
    if len(labels) > len(shown):
        shown.append(f"{len(labels) - len(shown):,} more labels")
    return " and ".join(shown)


def _is(text: str, label: float | str | bool) -> bool:
    """Whether a label as the profile has it is this one."""
    if isinstance(label, bool):
        return text == str(label).lower()
    return text == label if isinstance(label, str) else float(text) == label
