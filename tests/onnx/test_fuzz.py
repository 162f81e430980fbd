"""Random models of every objective and kind of boosting; a failure names its seed."""

from __future__ import annotations

import pytest
from random_models import COMBINATIONS, random_case

from rayforest.onnx import check_parity, from_lightgbm


@pytest.mark.parametrize("seed", range(6 * COMBINATIONS))
def test_every_bit_of_a_random_model_survives_the_export(seed: int) -> None:
    case = random_case(seed)
    model = from_lightgbm(case.booster, num_iteration=case.num_iteration)
    evidence = check_parity(case.booster, model, case.rows, num_iteration=case.num_iteration)
    assert evidence.raw_scores > len(case.rows), case.kind
