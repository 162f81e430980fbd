"""What only the generator knows: how well the best possible model can tell frauds from the rest.

The true probability is the best score there is, so its AUC against the drawn labels is what any model can at most
expect to reach. Probabilities are counted in bins, in memory that does not grow with the rows; two payments in one bin
count as a tie, and half of all ties is the bound on the error.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rayforest.errors import InputError
from rayforest.formats import PAYMENTS_TRUTH, Document
from rayforest.payments.block import DrawnBlock
from rayforest.payments.defects import DUPLICATED, REJECTED, Defect, accepted

TRUTH_FILE = "_truth.json"
"""Stands beside the data files; readers of tables skip names that begin with an underscore."""

BINS = 4096
_CENTRE = -5.0  # near the typical logit, so that payments spread over all bins


@dataclass(frozen=True)
class DayTruth:
    """One day of payments."""

    date: dt.date
    rows: int
    accepted: int
    """Rows that jobs/examples/payments.toml does not quarantine."""
    positives: int
    """Frauds among the accepted rows."""
    best_possible_auc_since: float | None
    """Over the accepted rows of this day and all later ones; None where they are all of one class."""


@dataclass(frozen=True)
class Generated:
    """What `generate_payments` wrote; the content of _truth.json."""

    rows: int
    """All rows, duplicates included."""
    seed: int
    dirty: float
    files: tuple[Path, ...]
    """In the order of time, which is the order of their names."""
    defects: dict[Defect, int]
    """Rows with each kind of defect; a row carries at most one."""
    positive_share: float
    """Of the accepted rows; 0 where there are none."""
    best_possible_auc: float | None
    """AUC of the true probability over all accepted rows; None where they are all of one class."""
    auc_error_bound: float
    """How far `best_possible_auc` can be from the value without bins."""
    days: tuple[DayTruth, ...]

    @property
    def duplicated_keys(self) -> int:
        """Rows whose key stands in an earlier row."""
        return sum(self.defects[d] for d in DUPLICATED)

    @property
    def rejected(self) -> int:
        """Rows that jobs/examples/payments.toml quarantines."""
        return sum(self.defects[d] for d in REJECTED)

    def best_possible_auc_of_last(self, share: float) -> float | None:
        """The best possible AUC over the last days that hold about this share of the accepted rows.

        What the AUC on a test part that was split off by time may be compared with: the model has not seen those days.
        Exact to the day: a share of 0.15 of 20 equal days is the last three.
        """
        wanted = share * sum(day.accepted for day in self.days)
        held, nearest = 0, self.days[-1]
        for day in reversed(self.days):
            if held and abs(held + day.accepted - wanted) > abs(held - wanted):
                break
            held, nearest = held + day.accepted, day
        return nearest.best_possible_auc_since


class TruthCounter:
    """Adds up blocks of payments, day by day. Holds 32 KiB a day."""

    def __init__(self, seed: int, dirty: float, dates: list[dt.date]) -> None:
        self._seed, self._dirty, self._dates = seed, dirty, dates
        self._rows = np.zeros(len(dates), np.int64)
        self._defects = np.zeros(len(Defect) + 1, np.int64)
        self._counts = np.zeros((len(dates), 2, BINS), np.int32)  # day, label, bin

    def add(self, day: int, drawn: DrawnBlock) -> None:
        """Count a block of a day."""
        self._rows[day] += len(drawn.logit)
        self._defects += np.bincount(drawn.defects, minlength=len(Defect) + 1)
        bins = np.minimum((BINS / (1 + np.exp(_CENTRE - drawn.logit))).astype(np.int64), BINS - 1)
        for label in (0, 1):
            used = accepted(drawn.defects) & (drawn.fraud == label)
            self._counts[day, label] += np.bincount(bins[used], minlength=BINS).astype(np.int32)

    def finish(self, files: tuple[Path, ...]) -> Generated:
        """The truth about everything that was added."""
        since = np.zeros((2, BINS), np.int64)
        auc, error = None, 0.0
        days: list[DayTruth] = []
        for day in reversed(range(len(self._dates))):
            since += self._counts[day]
            auc, error = _auc(since[0], since[1])
            positives = int(self._counts[day, 1].sum())
            total = int(self._counts[day].sum())
            days.append(DayTruth(self._dates[day], int(self._rows[day]), total, positives, auc))
        return Generated(
            rows=int(self._rows.sum()),
            seed=self._seed,
            dirty=self._dirty,
            files=files,
            defects={defect: int(self._defects[defect.code]) for defect in Defect},
            positive_share=float(since[1].sum() / max(1, since.sum())),
            best_possible_auc=auc,
            auc_error_bound=error,
            days=tuple(reversed(days)),
        )


def _auc(negatives: npt.NDArray[np.int64], positives: npt.NDArray[np.int64]) -> tuple[float | None, float]:
    """AUC of counts by ascending bin, and the bound on its error."""
    pairs = float(negatives.sum()) * float(positives.sum())
    if pairs == 0:
        return None, 0.0
    below = np.cumsum(negatives) - negatives
    ties = float(positives @ negatives.astype(np.float64)) / 2
    return (float(positives @ below.astype(np.float64)) + ties) / pairs, ties / pairs


def write_truth(folder: Path, truth: Generated) -> None:
    """Write FOLDER/_truth.json."""
    content = dataclasses.asdict(truth)
    content["files"] = [file.name for file in truth.files]
    content["duplicated_keys"], content["rejected"] = truth.duplicated_keys, truth.rejected
    for day in content["days"]:
        day["date"] = day["date"].isoformat()
    (folder / TRUTH_FILE).write_bytes(PAYMENTS_TRUTH.write(content, indent=1) + b"\n")


def read_truth(folder: str | Path) -> Generated:
    """Read what `generate_payments` wrote into a folder.

    Raises:
        InputError: there is no _truth.json, or it cannot be read.
        FormatError: it is damaged, of another kind, or newer.
    """
    file = Path(folder) / TRUTH_FILE
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file} cannot be read",
            expected="what generate payments writes",
            found=(error.strerror or str(error)).lower(),
            next_step=PAYMENTS_TRUTH.if_damaged,
        ) from None

    def parse(document: Document) -> Generated:
        given = {name: value for name, value in document.items() if name not in ("duplicated_keys", "rejected")}
        read = {
            "files": tuple(file.parent / name for name in document["files"]),
            "defects": {Defect(name): count for name, count in document["defects"].items()},
            "days": tuple(DayTruth(**{**d, "date": dt.date.fromisoformat(d["date"])}) for d in document["days"]),
        }
        return Generated(**given | read)

    return PAYMENTS_TRUTH.read(data, str(file), parse)
