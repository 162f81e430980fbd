"""Projects that are built once and only read by tests: dirty payments, one run to its end, one with every type."""

from __future__ import annotations

from pathlib import Path

import pytest
import stored_types
from small_projects import Payments, Ran, orders, write_orders, write_project

import rayforest
from rayforest.payments import generate_payments


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


@pytest.fixture(scope="session")
def types_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project file; ROOT/bundle stands beside it."""
    folder = tmp_path_factory.mktemp("types")
    stored_types.write_rows(folder / "raw", stored_types.rows(900))
    path = folder / "project.toml"
    path.write_text(stored_types.PROJECT, encoding="utf-8")
    for stage in (rayforest.prepare, rayforest.tune, rayforest.export):
        stage(path)
    return path
