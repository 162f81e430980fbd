"""What does each stage of the whole path cost, beside the plain script that a user would write?

prepare beside one Polars query a file, without checks, quarantine or records; score beside Polars features and
`Booster.predict` on the same rows; both read and write the same Parquet. tune and export are timed alone. Everything
in one process with two threads, on generated payments. Features and predictions are compared before anything is timed.

    python -m benchmarks.stages [--quick]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import lightgbm as lgb
import numpy as np
import polars as pl

import rayforest
from benchmarks.harness import as_json, interleaved, table, write
from rayforest.bundle.bundle import Bundle, load_bundle

PROJECT = Path(__file__).parent.parent / "jobs" / "examples" / "payments.toml"


def main() -> None:
    """Generate, compare, time, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rows, rounds = (20_000, 1) if options.quick else (1_000_000, 5)
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), rows, rounds, quick=options.quick)


def run(folder: Path, rows: int, rounds: int, *, quick: bool) -> None:
    """The benchmark in a folder of its own."""
    raw = folder / "payments"
    rayforest.generate_payments(raw, rows=rows, days=20, dirty=0.0)
    settings = [f'data.source="{raw}"', f'project.root="{folder}/out"', "run.executor=in-process", "run.workers=2"]
    quick_tuning = ["tune.trials=1", "tune.space.num_iterations=100", "tune.space.num_leaves=31"]
    settings += quick_tuning
    steps = rayforest.run(PROJECT, overrides=settings).steps
    bundle = load_bundle(f"{folder}/out/bundle")
    files = sorted(raw.glob("*.parquet"))
    booster = lgb.Booster(model_str=bundle.read("booster.txt").decode())
    check_agreement(folder, bundle, booster, files)

    counter = iter(range(10**6))

    def ours(stage: str) -> object:
        fresh = [s for s in settings if "project.root" not in s and "score.destination" not in s]
        root = folder / f"run-{next(counter)}"
        if stage == "prepare":
            return rayforest.prepare(PROJECT, overrides=[*fresh, f'project.root="{root}"'])
        return rayforest.score(PROJECT, overrides=[*settings, f'score.destination="{root}"'])

    prepared = interleaved(
        {
            "rayforest prepare": ("two threads; contract, keys, split, quarantine, records", lambda: ours("prepare")),
            "Polars, a query a file": ("features only", lambda: plain_prepare(folder, bundle, files)),
        },
        rounds,
    )
    scored = interleaved(
        {
            "rayforest score": ("two threads; engine auto (kernel)", lambda: ours("score")),
            "Polars + LightGBM": ("num_threads=2", lambda: plain_score(folder, bundle, booster, files)),
        },
        rounds,
    )
    alone = {step.command: round(step.seconds, 2) for step in steps}
    text = (
        f"# Stages on {rows:,} payments\n\n"
        f"## prepare\n\n{table(prepared, rows)}\n\n## score\n\n{table(scored, rows)}\n\n"
        f"## First run, each stage alone\n\n"
        + "\n".join(f"- {name}: {seconds} s" for name, seconds in alone.items())
        + "\n\ntune: one trial of at most 100 rounds with 31 leaves.\n"
    )
    document = {"rows": rows, "prepare": as_json(prepared), "score": as_json(scored), "alone_s": alone}
    write("stages", document, text, quick=quick)


def features_of(bundle: Bundle, file: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Raw columns, and features, of one clean file as a user's script would compute them."""
    frame = pl.read_parquet(file).with_columns(pl.col("amount").cast(pl.Float64))
    typed = frame.with_columns(
        pl.col(pl.Int64, pl.Int32, pl.Float32).cast(pl.Float64), pl.col(pl.Datetime).cast(pl.Datetime("us"))
    )
    return frame, typed.select(bundle.features.recipe.feature_values())


def plain_prepare(folder: Path, bundle: Bundle, files: list[Path]) -> None:
    """Features of every file, as Parquet."""
    out = folder / "plain"
    out.mkdir(exist_ok=True)
    for file in files:
        frame, features = features_of(bundle, file)
        frame.select("payment_id", "is_fraud").hstack(features).write_parquet(out / file.name, compression="zstd")


def plain_score(folder: Path, bundle: Bundle, booster: lgb.Booster, files: list[Path]) -> None:
    """Scores of every file, as Parquet."""
    out = folder / "plain"
    out.mkdir(exist_ok=True)
    for file in files:
        frame, features = features_of(bundle, file)
        scores = booster.predict(bundle.features.matrix(features), num_threads=2)
        frame.select("payment_id", "paid_at", "card_id", "amount").with_columns(
            probability=pl.Series(np.asarray(scores))
        ).write_parquet(out / file.name, compression="zstd")


def check_agreement(folder: Path, bundle: Bundle, booster: lgb.Booster, files: list[Path]) -> None:
    """Stop unless the plain script and rayforest give the same probability for every payment."""
    plain_score(folder, bundle, booster, files)
    plain = pl.read_parquet(folder / "plain" / "*.parquet").sort("payment_id")
    ours = rayforest.read(f"{folder}/out/scored").collect().sort("payment_id")
    if not plain["payment_id"].equals(ours["payment_id"]):
        raise SystemExit("the contenders scored other rows")
    difference = float((plain["probability"] - ours["probability"]).abs().max())  # type: ignore[arg-type]
    if difference > 1e-15:
        raise SystemExit(f"the contenders differ by {difference}")


if __name__ == "__main__":
    main()
