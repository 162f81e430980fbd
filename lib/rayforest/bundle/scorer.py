"""A loaded bundle: model inputs in, raw scores and predictions out."""

from __future__ import annotations

import threading
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa

from rayforest.bundle.bundle import Bundle, load_bundle
from rayforest.bundle.link import Link
from rayforest.bundle.scoring_engines import Choice, ScoringEngine, open_engine

Array = npt.NDArray[np.float64]


class Scorer:
    """A bundle ready to score. Safe to share between threads."""

    def __init__(self, bundle: Bundle, engine: Choice = "onnxruntime") -> None:
        self.bundle = bundle
        self.trees = onnx.load_from_string(bundle.read(bundle.trees))
        self.engine: ScoringEngine = open_engine(engine, self.trees)
        self._link = Link(self.trees)

    def score(self, inputs: pa.Table) -> tuple[Array, Array]:
        """Raw scores, float64 [rows, outputs], and predictions as `Booster.predict` gives them, of model inputs."""
        raw_score = self.engine.raw_score(inputs)
        return raw_score, self._link(raw_score)


_loading = threading.Lock()


def scorer_of(location: str, digest: str, engine: Choice) -> Scorer:
    """The scorer of a bundle, kept by the worker process under the bundle's SHA-256."""
    with _loading:  # threads that ask for the same one wait for the first of them
        return _scorer_of(location, digest, engine)


@lru_cache(maxsize=2)
def _scorer_of(location: str, digest: str, engine: Choice) -> Scorer:
    return Scorer(load_bundle(location, expected=digest), engine)
