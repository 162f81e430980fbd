"""Built once for all tests of the stages, which only read them: dirty payments, and a small project run to the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from small_projects import orders, write_orders, write_project

import rayforest
from rayforest.data.payments import Generated, generate_payments

EXAMPLE = Path(__file__).parents[2] / "jobs" / "examples" / "payments.toml"


@dataclass(frozen=True)
class Payments:
    """Generated payments, and the example project over them."""

    truth: Generated
    settings: tuple[str, ...]

    def at(self, root: Path, *more: str) -> rayforest.Project:
        """The example project with another root."""
        return rayforest.load_project(EXAMPLE, [*self.settings, f'project.root="{root}"', *more])


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


@dataclass(frozen=True)
class Ran:
    """A project that ran to the end."""

    folder: Path
    project: rayforest.Project
    result: rayforest.RunResult


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """1,200 clean orders in three files, prepared, tuned, exported and scored."""
    folder = tmp_path_factory.mktemp("ran")
    write_orders(folder, orders(1_200), files=3)
    project = rayforest.load_project(
        write_project(folder, score='carry = ["customer", "at", "bought"]', run="shard_rows = 500")
    )
    return Ran(folder, project, rayforest.run(project))
