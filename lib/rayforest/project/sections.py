"""The project file as frozen models, one class a table, validated once, at the edge."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rayforest.kinds import Kind

if TYPE_CHECKING:
    from rayforest.engine.policy import Policy

Stage = Literal["prepared", "tuned", "bundle", "scored"]
"""Where a stage writes."""
Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""One name or a list of names."""


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("each column once")
    return names


KeyNames = Annotated[Names, AfterValidator(_each_once)]
"""The same, of columns that are taken together: none twice."""


class Section(BaseModel):
    """A table of the project file: frozen, and no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ProjectSection(Section):
    """Who this project is and where it writes."""

    name: str
    """Of letters, digits, '.', '_' and '-'."""
    root: str = "out"
    """Folder or URI that holds prepared, tuned, bundle and scored."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 0
    """Of the split and the search."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
            raise ValueError("a name of letters, digits, '.', '_' and '-'")
        return value


class FormatSection(Section):
    """How files are read. The options are CSV's; giving any of them says that the files are CSV."""

    type: Literal["parquet", "csv", "arrow"] | None = None
    """By each file's ending if left out."""
    delimiter: str | None = None
    """One ASCII character, "," by default and a tab in .tsv files; or "blanks": runs of spaces and tabs."""
    header: StrictBool | None = None
    """Whether the first row holds the names; true by default."""
    names: tuple[str, ...] | None = None
    """Replace the header's names, or stand for it; without either, columns are c1, c2 and so on."""
    skip_lines: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Lines before the header."""
    null_words: tuple[str, ...] | None = None
    """Texts that mean missing, as the empty one always does."""
    trim: StrictBool | None = None
    """Whether blanks around values do not count."""
    encoding: str | None = None
    """A Python codec name; utf-8 by default."""
    decimal: Literal[".", ","] | None = None
    """Stands before the fraction of a number; "." by default."""
    thousands: str | None = None
    """Stands between groups of three digits; none by default. " " is any kind of blank."""
    quote: str | None = None
    """Values may stand between two of it; a double quote by default. "": quotes are ordinary characters."""
    escape: str | None = None
    """The character after it stands for itself, such as a quote inside quotes; none by default."""
    comment: str | None = None
    """Lines that begin with this character are left out; none by default."""
    repeated_names: Literal["refuse", "number"] | None = None
    """What becomes of a header that has a name twice: it is refused (the default), or later ones become x_2, x_3."""
    trailing_delimiter: StrictBool | None = None
    """Whether a delimiter ends each row, so that the empty field after it is none."""

    @field_validator("delimiter", "quote", "escape", "comment")
    @classmethod
    def _one_byte(cls, value: str | None, info: ValidationInfo) -> str | None:
        words = {"delimiter": ("blanks",), "quote": ("",)}.get(str(info.field_name), ())
        if value is None or value in words or (len(value.encode()) == 1 and value not in "\r\n"):
            return value
        raise ValueError(
            f"one ASCII character{''.join(f' or {word!r}' for word in words)}, such as {_SUCH_AS[str(info.field_name)]}"
        )

    @field_validator("thousands")
    @classmethod
    def _one_mark(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or value.isalnum() or value in "+-\r\n"):
            raise ValueError("one character that is no letter and no digit, such as '.' or ',' or ' '")
        return value

    @model_validator(mode="after")
    def _each_character_has_one_meaning(self) -> FormatSection:
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise ValueError("thousands that differ from decimal" + ("" if self.decimal else ', which is "."'))
        delimiter = " \t" if self.delimiter == "blanks" else self.delimiter or ""
        quote = '"' if self.quote is None else self.quote
        taken = [*delimiter, *filter(None, (quote, self.escape, self.comment))]
        if len(set(taken)) < len(taken):
            raise ValueError("four different characters as delimiter, quote, escape and comment")
        if self.escape is not None and self.delimiter == "blanks":
            raise ValueError('an escape only beside a delimiter of one character, not "blanks"')
        return self

    @property
    def csv_options(self) -> dict[str, Any]:
        """The CSV options that were given."""
        return {k: v for k, v in self.model_dump(exclude={"type"}).items() if v is not None}

    def overridden_by(self, other: FormatSection) -> FormatSection:
        """This format with every option that `other` gives."""
        return self.model_copy(update={k: v for k, v in other.model_dump().items() if v is not None})


_SUCH_AS = {"delimiter": "',' or ';' or '\\t'", "quote": '"\'"', "escape": "'\\\\'", "comment": "'#'"}


def _format(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


Format = Annotated[FormatSection, BeforeValidator(_format)]
"""`format = "csv"`, or a `[data.format]` table."""


def _iso_text(value: object) -> object:
    """TOML has dates of its own: min = 2024-01-31 means the same as min = "2024-01-31"."""
    return value.isoformat() if isinstance(value, dt.date) else value


Bound = Annotated[StrictFloat | StrictStr | None, BeforeValidator(_iso_text)]


class ColumnSection(Section):
    """What a raw column must hold. A row that breaks it is quarantined."""

    type: Kind
    """number, boolean, string or timestamp."""
    required: StrictBool = False
    """Whether a missing value is wrong."""
    min: Bound = None
    """Smallest allowed number, or timestamp as ISO text."""
    max: Bound = None
    """Greatest allowed number or timestamp."""
    values: tuple[Scalar, ...] | None = None
    """The only allowed values; null is allowed unless `required`."""
    null_values: tuple[Scalar, ...] = ()
    """Values of this column that mean missing, such as -999 or "N/A"."""
    format: str | None = None
    """strptime format of a timestamp that is stored as text."""
    decimal: Literal[".", ","] | None = None
    """Stands before the fraction of a number that is stored as text; as in the file's format by default."""
    thousands: str | None = None
    """Stands between groups of three digits of a number that is stored as text."""

    @model_validator(mode="after")
    def _values_fit_the_kind(self) -> ColumnSection:
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        if self.type in (Kind.STRING, Kind.BOOLEAN) and bounds:
            raise ValueError(f"min and max only for numbers and timestamps; this column is a {self.type}")
        if self.type is Kind.NUMBER and any(isinstance(bound, str) for bound in bounds):
            raise ValueError("numbers as min and max of a number")
        if self.type is Kind.TIMESTAMP and any(not isinstance(bound, str) for bound in bounds):
            raise ValueError('dates or texts such as "2024-01-31 12:00" as min and max of a timestamp')
        fits: dict[Kind, tuple[type, ...]] = {
            Kind.NUMBER: (int, float),
            Kind.BOOLEAN: (bool,),
            Kind.TIMESTAMP: (str,),
            Kind.STRING: (str, int, float),
        }
        for value in self.values or ():
            if not isinstance(value, fits[self.type]) or (isinstance(value, bool) and self.type is not Kind.BOOLEAN):
                raise ValueError(f"values of the column's own type, which is {self.type}")
        if self.format is not None and self.type is not Kind.TIMESTAMP:
            raise ValueError(f"format only for timestamps; this column is a {self.type}")
        if (self.decimal, self.thousands) != (None, None) and self.type is not Kind.NUMBER:
            raise ValueError(f"decimal and thousands only for numbers; this column is a {self.type}")
        if self.thousands is not None and (len(self.thousands) != 1 or self.thousands == (self.decimal or ".")):
            raise ValueError("thousands as one character other than decimal")
        return self


def _column(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


Column = Annotated[ColumnSection, BeforeValidator(_column)]
"""`amount = "number"`, or `amount = { type = "number", min = 0 }`."""


def _rules(value: object) -> object:
    return {str(text): text for text in value} if isinstance(value, list) else value


class TableSection(Section):
    """A table that a log or a catalog describes, read as one snapshot of it: `delta` or `iceberg` names it."""

    delta: str | None = None
    """Path or URI of a Delta table's folder."""
    version: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Of the Delta table; by default the newest one when a run begins."""
    iceberg: str | None = None
    """NAMESPACE.TABLE of an Iceberg catalog, or the path or URI of a table's metadata.json."""
    snapshot: Annotated[int, Field(strict=True)] | None = None
    """Id of a snapshot of the Iceberg table; by default the newest one when a run begins."""
    catalog: str | None = None
    """Iceberg's catalog, as pyiceberg's configuration calls it; its default catalog by default."""

    @model_validator(mode="after")
    def _one_table(self) -> TableSection:
        if bool(self.delta) == bool(self.iceberg):
            raise ValueError('one table: { delta = "PATH" } or { iceberg = "NAMESPACE.TABLE" }')
        if self.delta and (self.snapshot is not None or self.catalog is not None):
            raise ValueError("version beside delta; snapshot and catalog are Iceberg's")
        if self.iceberg and self.version is not None:
            raise ValueError("snapshot beside iceberg; version is Delta's")
        return self


def _is_table(value: object) -> str:
    """Which of the two is meant, so that an error speaks of that one alone; see `explain.py` for the angle brackets."""
    return "<table>" if isinstance(value, Mapping | TableSection) else "<files>"


Source = Annotated[Annotated[Names, Tag("<files>")] | Annotated[TableSection, Tag("<table>")], Discriminator(_is_table)]
"""`source = "raw/*.csv"`, a list of such patterns, or `{ delta = "URI", version = 7 }`."""


class DataSection(Section):
    """The raw tables."""

    source: Source
    """Paths, globs (** spans folders) and folders, or URIs of object stores (s3://, gs://, az://) with the same; hive
    folders become columns. Or a table: { delta = "PATH" } or { iceberg = "NAMESPACE.TABLE" }."""
    format: Format = FormatSection()
    """"parquet", "csv" or "arrow", or a table of the options of text tables."""
    key: KeyNames = ()
    """Columns that identify a row."""
    target: str | None = None
    """A column, or an SQL expression."""
    positive: Scalar | None = None
    """The label that counts as 1."""
    time: str | None = None
    """A column or SQL expression, number or timestamp, that orders the rows in time."""
    columns: dict[str, Column] = {}
    """What columns must hold, by name: a kind, or a table. Those that are not named are taken as they are."""
    rules: Annotated[dict[str, str], BeforeValidator(_rules)] = {}
    """SQL conditions by name; a row for which one is false is quarantined (null passes, as in a CHECK constraint)."""
    on_bad_row: Literal["quarantine", "fail"] = "quarantine"
    """fail: no row may be quarantined."""
    error_budget: Annotated[StrictInt | StrictFloat, Field(ge=0)] | None = None
    """Rows that may be quarantined: a share below 1, or a count."""

    @field_validator("source")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...] | TableSection) -> tuple[str, ...] | TableSection:
        if isinstance(value, tuple) and (not value or not all(value)):
            raise ValueError("a path, a glob, a folder, or a list of them")
        return value


class FeaturesSection(Section):
    """Model inputs as SQL over the raw columns; without any, every raw column that is not key, target or time."""

    expressions: dict[str, str] = {}
    """A model input by its name."""
    categorical: Names = ()
    """Features of numbers that are codes. Features of text are categories in any case."""
    unseen: Literal["missing", "quarantine"] = "missing"
    """What score does with a category that training never saw: treat it as missing, or quarantine the row."""

    @model_validator(mode="before")
    @classmethod
    def _names_are_features(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        known = {"categorical", "unseen"}
        return {k: v for k, v in value.items() if k in known} | {
            "expressions": {k: v for k, v in value.items() if k not in known}
        }


class Shares(Section):
    """Shares of the rows; they add up to 1."""

    train: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.7
    valid: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.15
    test: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.15

    @model_validator(mode="after")
    def _add_up(self) -> Shares:
        total = self.train + self.valid + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"shares that add up to 1; these make {total:g}")
        return self

    @property
    def of_parts(self) -> tuple[float, float, float]:
        """In the order of the parts."""
        return self.train, self.valid, self.test


def _shares(value: object) -> object:
    if isinstance(value, list):
        if len(value) != 3:
            raise ValueError("three shares: [train, valid, test]")
        return dict(zip(("train", "valid", "test"), value, strict=True))
    return value


class SplitSection(Section):
    """How rows are divided into train, valid and test without a leak."""

    by: Literal["hash", "time"] = "hash"
    """hash: rows of one key stay together; time: the last rows test."""
    key: KeyNames = ()
    """Columns whose rows stay together (a patient, a card); the data key by default."""
    shares: Annotated[Shares, BeforeValidator(_shares)] = Shares()
    """{ train = 0.7, valid = 0.15, test = 0.15 }, or a list of three."""


Metric = Literal["auc", "average_precision", "log_loss", "accuracy", "rmse", "mae"]
CLASS_METRICS: tuple[Metric, ...] = ("auc", "average_precision", "log_loss", "accuracy")
"""Those of classes; a target that is a number is a class under them."""


class TuneSection(Section):
    """The search."""

    metric: Metric | None = None
    """log_loss or rmse by default. It also says whether a numeric target is a class or a quantity."""
    trials: Annotated[int, Field(strict=True, ge=1)] = 20
    """Models to train; with more than before, those that are there are kept."""
    budget_s: Annotated[float, Field(strict=True, gt=0)] | None = None
    """No new trial starts after this many seconds."""
    workers: Annotated[int, Field(strict=True, ge=1)] | None = None
    """Trials at the same time; also how far the search looks ahead, so it changes which trials are proposed."""
    nodes: Literal["auto"] | Annotated[int, Field(strict=True, ge=1)] = "auto"
    """Nodes of a Ray cluster that train each trial together. auto: one, or, where the training rows need more memory
    than a node has, as few as have it. Another number of nodes gives other last digits, and so other trees."""
    space: dict[str, Any] = {}
    """LightGBM parameters: a value fixes it, [low, high] searches between, { choices = [...] } picks one."""


class ExportSection(Section):
    """The bundle."""

    parity_rows: Annotated[int, Field(strict=True, ge=1)] = 10_000
    """Held-out rows on which LightGBM and onnxruntime must give the same bits."""
    graph: Literal["full", "trees"] = "full"
    """full: model.onnx takes raw columns; trees: it takes the finished features."""


class PublishSection(Section):
    """Where scored results go besides their destination."""

    delta: str
    """Path or URI of a Delta table, created where there is none. Each result is one commit that adds its rows, once:
    its `txn` action holds the plan key, so that a repeated run adds nothing."""


class ScoreSection(Section):
    """Batch inference."""

    source: Source = ()
    """As data.source, which it is by default."""
    format: Format = FormatSection()
    """Overrides [data.format] for score.source."""
    destination: str | None = None
    """ROOT/scored by default."""
    publish: PublishSection | None = None
    """{ delta = "URI" }: each result also becomes one commit of that Delta table. No part of the plan key."""
    carry: Names = ()
    """Raw columns that come out beside the prediction."""
    engine: Literal["auto", "onnxruntime", "kernel"] = "auto"
    """What adds up the trees: auto takes the tree kernel where it gives onnxruntime's bits. The scores are the same."""
    outputs: tuple[Literal["prediction", "probability", "raw_score"], ...] = ()
    """Columns that the model adds, in this order; by default the prediction and, for classes, the probability."""
    threshold: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    """Of two classes, the second one is predicted where its probability is above this; 0.5 by default."""
    precision: Literal["float64", "float32"] = "float64"
    """Of the columns that the model adds, labels apart."""

    @field_validator("outputs")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each output once")
        return value


class RunSection(Section):
    """How work is carried out; nothing here changes a result."""

    executor: Literal["auto", "in-process", "ray"] = "auto"
    """auto takes Ray where address or RAY_ADDRESS names one, and threads of this process otherwise."""
    address: str | None = None
    """HOST:PORT, "ray://HOST:PORT", "auto" or "local"; RAY_ADDRESS by default."""
    workers: Annotated[int, Field(strict=True, ge=1)] | None = None
    """All CPUs by default."""
    shard_rows: Annotated[int, Field(strict=True, ge=1)] | None = None
    """Rows of a shard, at most; None for a good number that cuts few row groups. The one key here that decides where
    files are cut."""
    retries: Annotated[int, Field(strict=True, ge=0)] = 3
    """Further attempts at a shard that failed."""
    timeout_s: Annotated[float, Field(strict=True, gt=0)] | None = None
    """Longest time for one shard."""


class Project(Section):
    """A whole project file."""

    project: ProjectSection
    data: DataSection
    features: FeaturesSection = FeaturesSection()
    split: SplitSection = SplitSection()
    tune: TuneSection = TuneSection()
    export: ExportSection = ExportSection()
    score: ScoreSection = ScoreSection()
    run: RunSection = RunSection()
    base: Path = Field(default=Path(), exclude=True)
    """Folder of the project file; relative paths start here."""
    overridden: tuple[tuple[str, ...], ...] = Field(default=(), exclude=True)
    """Keys that --set gave, in its order: they win over what the file says of the same thing in other words."""

    def locate(self, path: str) -> str:
        """A path of the project file as an absolute path; URIs stay as they are."""
        return path if "://" in path else str((self.base / os.path.expanduser(path)).absolute())  # noqa: PTH111  raises nothing

    @property
    def root(self) -> str:
        """Folder or URI that holds prepared, tuned, bundle and scored."""
        return self.locate(self.project.root)

    @property
    def policy(self) -> Policy:
        """How prepare and score carry out their shards, and what they accept."""
        from rayforest.engine.policy import Policy

        budget = 0 if self.data.on_bad_row == "fail" else self.data.error_budget
        return Policy(self.run.retries, self.run.timeout_s, budget)

    def stage(self, name: Stage) -> str:
        """Destination of a stage."""
        if name == "scored" and self.score.destination is not None:
            return self.locate(self.score.destination)
        return f"{self.root.rstrip('/')}/{name}"
