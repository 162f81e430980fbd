"""Where does the processor time of score go? A part of `score_path`."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from rayforest.engine.attempt import Attempt
from rayforest.scoring.task import ScoreTask

PARTS = {
    "reading": [("reading.py", "read_placed")],
    "typing, checks and features": [("model_inputs.py", "__call__")],
    "trees": [("scoring_engines.py", "raw_score")],
    "predictions from raw scores": [("link.py", "__call__")],
    "columns of the model": [("outputs.py", "columns")],
    "writing, checking and committing": [("attempt.py", "write"), ("attempt.py", "commit")],
    "a shard in all": [("task.py", "__call__"), ("attempt.py", "commit")],
}
"""Part -> its functions, of which none calls another."""


def profile_of(score: Callable[[], object], floor: Callable[[], Counter[str]], rows: int) -> dict[str, float]:
    """Processor time by part, microseconds a row: the parts of a shard, then all of the stage, then the floor's.

    Args:
        score: runs score with one worker in this process.
        floor: the same for the floor; gives CPU seconds by part.
        rows: that each scores.

    Raises:
        KeyError: one of PARTS was never called.
    """
    profilers: list[cProfile.Profile] = []  # one a call: the next shard begins in another thread while one is committed

    def profiled(run: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            profilers.append(cProfile.Profile(time.thread_time))
            return profilers[-1].runcall(run, *arguments)

        return call

    began = time.process_time()
    with (
        mock.patch.object(ScoreTask, "__call__", profiled(ScoreTask.__call__)),
        mock.patch.object(Attempt, "commit", profiled(Attempt.commit)),
    ):
        score()
    whole = time.process_time() - began
    stats = pstats.Stats(*profilers).stats  # type: ignore[attr-defined]
    spent = {(Path(file).name, name): row[3] for (file, _, name), row in stats.items()}
    seconds = {name: sum(spent[key] for key in keys) for name, keys in PARTS.items()}
    seconds["the stage in all, with its plan, proof and manifest"] = whole
    floor_seconds = floor()
    seconds |= {f"the floor: {part}": each for part, each in floor_seconds.items()}
    seconds["the floor in all"] = floor_seconds.total()
    return {name: each / rows * 1e6 for name, each in seconds.items()}
