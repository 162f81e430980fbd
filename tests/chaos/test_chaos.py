"""Real processes, really killed: the short form. `make chaos` plays all cases with many seeds, and with a Ray for each
run, where the short form has one for all.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cases import CASES
from cluster_cases import CLUSTER_CASES
from store_cases import STORE_CASES
from violence import end_all, may_mount

pytestmark = pytest.mark.chaos


NEAR_OTHERS = {
    "driver killed, in-process",
    "raylet killed, Ray",
    "zombie, Ray",
    "command killed, Ray",
    "store faults, driver killed",
    "store faults, zombie",
}
"""Which the long form alone plays: each differs from another one by where its tasks run."""
SHORT_CASES = {name: case for name, case in (CASES | CLUSTER_CASES | STORE_CASES).items() if name not in NEAR_OTHERS}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.ray if "Ray" in name else ()) for name in SHORT_CASES]
)
def test_every_row_comes_out_once_in_the_same_bytes_or_nothing_is_published(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if name in STORE_CASES:
        request.getfixturevalue("s3")
    elif "Ray" in name:
        request.getfixturevalue("on_the_cluster")  # those that kill a Ray start one of their own
    if name == "full disk" and not may_mount():
        pytest.skip("needs the right to mount a small file system")
    try:
        SHORT_CASES[name](tmp_path, random.Random(1))
    finally:
        end_all()
