"""Built once for all tests of the stages, which only read them: dirty payments, and a small project run to the end."""

from __future__ import annotations

import pytest
from small_projects import Payments, Ran, orders, write_orders, write_project

import rayforest
from rayforest.data.payments import generate_payments


@pytest.fixture(scope="session")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Payments:
    """6,000 payments of six days, of which 8% carry a defect."""
    folder = tmp_path_factory.mktemp("payments")
    truth = generate_payments(folder, rows=6_000, days=6, dirty=0.08, seed=5)
    settings = (
        f'data.source="{folder}"',
        'run.executor="in-process"',
        "run.workers=1",
        "run.shard_rows=700",
        "tune.trials=2",
        "tune.space.num_iterations=12",
    )
    return Payments(truth, settings)


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """1,200 clean orders in three files, prepared, tuned, exported and scored."""
    folder = tmp_path_factory.mktemp("ran")
    write_orders(folder, orders(1_200), files=3)
    project = rayforest.load_project(
        write_project(folder, score='carry = ["customer", "at", "bought"]', run="shard_rows = 500")
    )
    return Ran(folder, project, rayforest.run(project))
