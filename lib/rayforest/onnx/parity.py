"""The gate of an export: LightGBM and onnxruntime give the same bits, or there is no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import onnxruntime

from rayforest.errors import InputError, ParityError
from rayforest.onnx.divergence import find_divergence
from rayforest.onnx.lightgbm_text import Bools, Floats, LightGBMModel, LightGBMSource, booster_of, read_lightgbm
from rayforest.onnx.parity_rows import threshold_rows
from rayforest.onnx.runtime import predicted_output, rows_a_call, runtime_session
from rayforest.process_settings import LIGHTGBM_PROOF_THREADS

MAX_RELATIVE_DIFFERENCE = 1e-15
"""Allowed between predictions: exp and log of the two engines differ in their last bits."""
SMALLEST = 5e-324
"""Allowed between predictions that are subnormal, where one unit is more than 1e-15 of the value."""


@dataclass(frozen=True)
class ParityEvidence:
    """What was compared, and that it was equal."""

    rows: int
    """Rows that the caller gave."""
    threshold_rows: int
    """Rows made at the model's thresholds and at the edges of double."""
    raw_scores: int
    """Raw scores compared bit by bit: rows of both kinds x outputs."""
    bits_differing: int
    """Raw scores that differ in any bit; always 0, since others are refused."""
    max_relative_difference: float
    """The largest between predictions, at most 1e-15."""
    engines: Mapping[str, str]
    """Engine -> version."""

    def as_dict(self) -> dict[str, Any]:
        """For the bundle's JSON."""
        return asdict(self)


RawScorer = Callable[[Floats], Floats]
"""Raw scores, double [rows, n_outputs], of features, double [rows, n_features]."""


def check_parity(
    booster: LightGBMSource,
    model: onnx.ModelProto,
    rows: Floats,
    *,
    num_iteration: int | None = None,
    also: Mapping[str, RawScorer] | None = None,
) -> ParityEvidence:
    """Compare LightGBM with onnxruntime on the given rows and on rows made at the model's thresholds.

    Args:
        booster: what `from_lightgbm` took.
        model: what it returned: input `features`, outputs `raw_score` and `prediction`, or `probability` where it has
            labels.
        rows: double [rows, n_features]; may have no rows.
        num_iteration: as given to `from_lightgbm`.
        also: further engines by name, whose raw scores must be the same bits too.

    Raises:
        ParityError: one raw score differs in one bit (two NaNs are equal), or a prediction by more than 1e-15 relative;
            names the row's index, the tree and the feature.
        InputError: the rows have another number of columns than the model.
    """
    gate = _Gate.of(booster, model, num_iteration, also or {})
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != gate.text.n_features:
        expected = f"[rows, {gate.text.n_features}]"
        raise InputError(
            "the rows do not fit the model",
            expected=expected,
            found=str(list(rows.shape)),
            next_step="give one column a feature, in the order of training",
        )
    made = threshold_rows(gate.text, rows)
    largest = max(gate.compare(rows, "the given rows"), gate.compare(made, "the rows made at the model's thresholds"))
    return ParityEvidence(
        rows=len(rows),
        threshold_rows=len(made),
        raw_scores=(len(rows) + len(made)) * gate.text.n_outputs,
        bits_differing=0,
        max_relative_difference=largest,
        engines={
            "lightgbm": lightgbm.__version__,
            "onnxruntime": onnxruntime.__version__,
            **{name: version("rayforest") for name in gate.also},
        },
    )


@dataclass(frozen=True, eq=False)
class _Gate:
    booster: Any
    num_iteration: int | None
    text: LightGBMModel
    model: onnx.ModelProto
    session: onnxruntime.InferenceSession
    also: Mapping[str, RawScorer]
    predicted: str
    """Output that holds what `Booster.predict` gives."""

    @classmethod
    def of(
        cls, source: LightGBMSource, model: onnx.ModelProto, num_iteration: int | None, also: Mapping[str, RawScorer]
    ) -> _Gate:
        text = read_lightgbm(source, num_iteration=num_iteration)
        booster = lightgbm.Booster(model_file=source) if isinstance(source, str | Path) else booster_of(source)
        session = runtime_session(model.SerializeToString())
        return cls(booster, num_iteration, text, model, session, also, predicted_output(model))

    def compare(self, rows: Floats, origin: str) -> float:
        """The largest relative difference of the predictions, once the raw scores are found equal."""
        largest = 0.0
        step = rows_a_call(self.model)
        for start in range(0, len(rows), step):
            part = np.ascontiguousarray(rows[start : start + step])
            raw, prediction = self.session.run(["raw_score", self.predicted], {"features": part})
            reference = self._predict(part, raw_score=True)
            for engine, scores in (("onnxruntime", raw), *((name, run(part)) for name, run in self.also.items())):
                unequal = np.flatnonzero(_differ(scores, reference.reshape(scores.shape)).any(axis=1))
                if len(unequal):
                    raise self._bits_differ(engine, part[unequal[0]], f"row {start + unequal[0]} of {origin}")
            relative = relative_difference(prediction, self._predict(part)).reshape(len(part), -1).max(axis=1)
            if (relative > MAX_RELATIVE_DIFFERENCE).any():
                row = start + int(np.argmax(relative > MAX_RELATIVE_DIFFERENCE))
                raise self._link_differs(relative.max(), f"row {row} of {origin}")
            largest = max(largest, float(relative.max()))
        return largest

    def _predict(self, rows: Floats, **kind: bool) -> Any:
        return self.booster.predict(rows, num_iteration=self.num_iteration, num_threads=LIGHTGBM_PROOF_THREADS, **kind)

    def _bits_differ(self, engine: str, row: Floats, which: str) -> ParityError:
        where = "the ONNX model agrees there"
        if engine == "onnxruntime":
            where = find_divergence(self.text, self.model, row, self._predict(row[None], pred_leaf=True)[0])
        return ParityError(
            f"{engine} and LightGBM give different raw scores",
            expected="the same bits for every row",
            found=f"{which} is the first to differ: {where}",
            next_step="do not use this model; if rayforest made it, report it with the LightGBM model's text",
        )

    def _link_differs(self, largest: float, which: str) -> ParityError:
        return ParityError(
            "onnxruntime and LightGBM give different predictions from the same raw scores",
            expected=f"a relative difference of at most {MAX_RELATIVE_DIFFERENCE:g}",
            found=f"{largest:.3g}; {which} is the first beyond it, in no tree and no feature: the raw scores agree",
            next_step=f"check what follows the trees for the objective {self.text.objective!r}",
        )


def _differ(scores: Floats, reference: Floats) -> Bools:
    bits, expected = (np.ascontiguousarray(s).view(np.uint64) for s in (scores, reference))
    return (bits != expected) & ~(np.isnan(scores) & np.isnan(reference))  # type: ignore[no-any-return]


def relative_difference(found: Floats, reference: Floats) -> Floats:
    """|found - reference| / |reference|, of the reference's shape.

    Equal values, two NaNs, and neighbours among the subnormals differ by 0.
    """
    found = found.reshape(reference.shape)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        difference = np.abs(found - reference)
        relative = difference / np.abs(reference)
    same = (found == reference) | (np.isnan(found) & np.isnan(reference)) | (difference <= SMALLEST)
    relative = np.where(np.isnan(relative), np.inf, relative)
    return np.where(same, 0.0, relative)
