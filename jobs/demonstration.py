"""The demo: the whole job on generated payments, on a Ray of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rayforest.api import RunResult, run
from rayforest.jobs.console import ConsoleReporter
from rayforest.payments import Generated, generate_payments
from rayforest.project.load import load_project

PROJECT = Path(__file__).parent / "examples" / "payments.toml"
DAYS = 20
TRIALS = 6


@dataclass(frozen=True)
class Demonstration:
    """What the demo made."""

    generated: Generated
    result: RunResult

    @property
    def metrics(self) -> dict[str, float]:
        """Test metrics of the model beside the best possible AUC on about the same days."""
        metrics = dict(self.result.tuned.metrics)
        shares = load_project(PROJECT, ["data.source=unused", "project.root=unused"]).split.shares
        best = self.generated.best_possible_auc_of_last(shares.test)
        return metrics | ({} if best is None else {"best_possible_auc": best})

    def as_dict(self) -> dict[str, object]:
        """The JSON object of --json."""
        return {
            "command": "demo",
            **{k: v for k, v in self.result.as_dict().items() if k != "command"},
            "metrics": self.metrics,
        }


def demonstrate(rows: int, out: Path, reporter: ConsoleReporter) -> Demonstration:
    """Generate payments under `out`, then prepare, tune, export and score them."""
    raw = out.absolute() / "payments"
    generated = generate_payments(raw, rows=rows, days=DAYS)
    reporter.say(f"demo: {generated.rows:,} payments of {DAYS} days in {len(generated.files)} files under {raw}")
    settings = [
        f'data.source="{raw}"',
        f'project.root="{out.absolute()}"',
        'run.executor="ray"',
        'run.address="local"',  # whatever RAY_ADDRESS says
        f"tune.trials={TRIALS}",
    ]
    return Demonstration(generated, run(PROJECT, overrides=settings, reporter=reporter))
