"""Real processes, really killed: the short form. `python -m tests.chaos.long` repeats it with many seeds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cases import CASES
from violence import end_all, may_mount

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.ray if "Ray" in name else ()) for name in CASES])
def test_every_row_comes_out_once_in_the_same_bytes_or_nothing_is_published(name: str, tmp_path: Path) -> None:
    if name == "full disk" and not may_mount():
        pytest.skip("needs the right to mount a small file system")
    try:
        CASES[name](tmp_path, random.Random(1))
    finally:
        end_all()
