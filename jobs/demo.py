"""generate and demo: made-up payments, and the whole job on them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayforest.jobs.console import ConsoleReporter, carry_out, show_stage
from rayforest.jobs.options import AsJson, Debug

if TYPE_CHECKING:
    from rayforest.jobs.demonstration import Demonstration
    from rayforest.payments import Generated


class Table(StrEnum):
    """What can be generated."""

    PAYMENTS = "payments"


class Format(StrEnum):
    """File format of generated tables."""

    PARQUET = "parquet"
    CSV = "csv"


def generate(
    table: Annotated[Table, typer.Argument(help="What to generate.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows in all, repeated keys included.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    days: Annotated[int, typer.Option(min=1, help="Days that the payments span.")] = 30,
    dirty: Annotated[float, typer.Option(min=0, max=1, help="Share of dirty rows.")] = 0.01,
    format: Annotated[  # noqa: A002  the option's name
        Format, typer.Option(help="File format.")
    ] = Format.PARQUET,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write made-up card payments whose best possible AUC is known."""

    def work(_: ConsoleReporter) -> Generated:
        from rayforest.payments import generate_payments

        return generate_payments(out, rows=rows, seed=seed, days=days, dirty=dirty, format=format.value)

    def as_dict(made: Generated) -> dict[str, object]:
        return {
            "command": "generate",
            "table": table.value,
            "destination": str(out.absolute()),
            "rows_out": made.rows,
            "files": len(made.files),
            "duplicated_keys": made.duplicated_keys,
            "positive_share": made.positive_share,
            "metrics": {"best_possible_auc": made.best_possible_auc},
        }

    def show(made: Generated) -> None:
        print(f"{made.rows:,} {table.value} in {len(made.files)} files under {out}")
        if made.best_possible_auc is not None:
            print(f"best possible AUC {made.best_possible_auc:.5f}")

    raise typer.Exit(carry_out("generate", work, as_json=as_json, debug=debug, show=show, as_dict=as_dict))


def demo(
    rows: Annotated[int, typer.Option(min=2_000, help="Payments to generate.")] = 200_000,
    out: Annotated[Path, typer.Option(help="Folder for data and results.")] = Path("demo"),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Generate payments, then prepare, tune, export and score them on local Ray."""

    def work(reporter: ConsoleReporter) -> Demonstration:
        from rayforest.jobs.demonstration import demonstrate

        return demonstrate(rows, out, reporter)

    def show(made: Demonstration) -> None:
        for step in made.result.steps:
            show_stage(step)
        metrics, scored = made.metrics, made.result.scored.destination
        print()
        for label, name in (("AUC of the model", "auc"), ("best possible AUC", "best_possible_auc")):
            if name in metrics:
                print(f"{label:<20}{metrics[name]:.4f}   on the last days, which training never saw")
        print(f"{'scored rows':<20}{scored}")
        print(f"{'list their files':<20}rayforest files {scored}")

    raise typer.Exit(
        carry_out("demo", work, as_json=as_json, debug=debug, show=show, as_dict=lambda made: made.as_dict())
    )
