"""Each format that rayforest writes: golden files are read, newer, damaged and mistaken ones refused by name."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayforest import formats
from rayforest.bundle.known_parts import training_tables
from rayforest.cluster.local import _read
from rayforest.engine.commit import Destination, Version
from rayforest.engine.document import open_table, read_schema, read_table
from rayforest.engine.failed_attempt import failed_attempt_of
from rayforest.engine.manifest import MANIFEST_PART_SCHEMA, open_manifest
from rayforest.engine.plan import open_plan
from rayforest.engine.record import decode_record
from rayforest.engine.stores.opening import open_store
from rayforest.errors import FormatError
from rayforest.features.contract import Contract
from rayforest.features.fitted import categories_of
from rayforest.features.profile import Profile
from rayforest.features.recipe import Recipe
from rayforest.formats import Document, Format
from rayforest.metrics.mergeable import scored_metrics
from rayforest.onnx.parity import ParityEvidence
from rayforest.payments import read_truth
from rayforest.preparing.repeated_keys import DuplicatesTask
from rayforest.preparing.split import TimeSketch
from rayforest.preparing.split_rule import SplitRule
from rayforest.scoring.totals import Totals
from rayforest.tables.schema import TableSchema
from rayforest.tuning.outcome import Outcome
from rayforest.tuning.trial import trial_record_of

GOLDEN = Path(__file__).parent
ROOT = GOLDEN.parents[1]
FORMATS = [value for value in vars(formats).values() if isinstance(value, Format) and value is not formats.BUNDLE]
"""All but that of a bundle as a whole, which is no file; see test_bundle.py."""


@dataclass(frozen=True)
class Golden:
    """Where files of a format lie in a folder of golden files, and what reads them today."""

    pattern: str
    read: Callable[[Path], object]
    """Reads the file, all of it."""

    @property
    def files(self) -> list[Path]:
        return sorted(GOLDEN.glob(f"*/{self.pattern}"))


def rows_of(form: Format, columns: Sequence[str]) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        return read_table(open_store(path.parent), path.name, form, columns)

    return read


def part_of_a_manifest(path: Path) -> object:
    with open_table(open_store(path.parent), path.name, formats.MANIFEST_PART, MANIFEST_PART_SCHEMA.names) as file:
        return file.read().to_pylist()


def of_json(form: Format, parse: Callable[[Document], object]) -> Callable[[Path], object]:
    return lambda path: form.read(path.read_bytes(), str(path), parse)


def schema_of_inputs(path: Path) -> object:
    return Version(open_store(path.parents[1]), 1, path.parent.name).load(
        path.name, formats.TABLE, TableSchema.from_dict
    )


NO_COLUMNS = Contract(())

PREPARED = "*/prepared/" + "[0-9a-f]" * 32
TUNED, BUNDLE, SCORED = (f"*/{stage}/" + "[0-9a-f]" * 32 for stage in ("tuned", "bundle", "scored"))
VERSION = "*/*/" + "[0-9a-f]" * 32
"""The folder of a version, which has its plan key for a name."""

READERS = {
    formats.CLAIM: Golden("*/*/claims/*.json", lambda path: Destination(open_store(path.parents[1])).latest_claim()),
    formats.CURRENT: Golden("*/*/current/*.json", lambda path: Destination(open_store(path.parents[1])).current()),
    formats.PLAN: Golden(
        f"{VERSION}/plan.parquet", lambda path: list(open_plan(open_store(path.parent), path.name) or ())
    ),
    formats.STEP_SCHEMA: Golden(f"{VERSION}/**/schema.arrow", lambda path: read_schema(path.read_bytes(), str(path))),
    formats.RECORD: Golden(f"{VERSION}/**/records/*/*.json", lambda path: decode_record(path.read_bytes(), str(path))),
    formats.FAILED_ATTEMPT: Golden(f"{VERSION}/**/failed/*/*.json", of_json(formats.FAILED_ATTEMPT, failed_attempt_of)),
    formats.MANIFEST: Golden(
        f"{VERSION}/manifest.json", lambda path: open_manifest(open_store(path.parents[1]), path.parent.name)
    ),
    formats.MANIFEST_PART: Golden(f"{VERSION}/manifest-*.parquet", part_of_a_manifest),
    formats.TABLE: Golden(f"{VERSION}/table.json", schema_of_inputs),
    formats.RECIPE: Golden(
        f"{PREPARED}/recipe.json", of_json(formats.RECIPE, partial(Recipe.from_document, contract=NO_COLUMNS))
    ),
    formats.CONTRACT: Golden(f"{VERSION}/contract.json", of_json(formats.CONTRACT, Contract.from_document)),
    formats.PROFILE: Golden(f"{VERSION}/profile.json", of_json(formats.PROFILE, Profile.from_document)),
    formats.SPLIT: Golden(f"{PREPARED}/split.json", of_json(formats.SPLIT, SplitRule.from_document)),
    formats.CATEGORIES: Golden(f"{PREPARED}/categories.json", of_json(formats.CATEGORIES, categories_of)),
    formats.TIMES: Golden(f"{PREPARED}/survey/records/*/*.sidecar", of_json(formats.TIMES, TimeSketch.from_document)),
    formats.KEY_HASHES: Golden(
        f"{PREPARED}/survey/data/*/*.parquet", rows_of(formats.KEY_HASHES, ["hash_a", "hash_b", "position"])
    ),
    formats.REPEATED_KEYS: Golden(
        f"{PREPARED}/duplicates/data/*/*.parquet", rows_of(formats.REPEATED_KEYS, DuplicatesTask.schema.names)
    ),
    formats.DATA: Golden(f"{PREPARED}/data/*/*.parquet", rows_of(formats.DATA, ["split", "target", "age"])),
    formats.TRIAL: Golden(f"{TUNED}/trials/*.json", of_json(formats.TRIAL, trial_record_of)),
    formats.TUNED_METRICS: Golden(f"{TUNED}/metrics.json", of_json(formats.TUNED_METRICS, Outcome.from_document)),
    formats.FEATURES: Golden(
        f"{BUNDLE}/features.json", of_json(formats.FEATURES, partial(Recipe.from_document, contract=NO_COLUMNS))
    ),
    formats.TRAINING: Golden(
        f"{BUNDLE}/training.json", of_json(formats.TRAINING, partial(training_tables, where="training.json"))
    ),
    formats.PARITY: Golden(
        f"{BUNDLE}/parity.json", of_json(formats.PARITY, lambda document: ParityEvidence(**document))
    ),
    formats.TOTALS: Golden(f"{SCORED}/records/*/*.sidecar", of_json(formats.TOTALS, Totals.from_document)),
    formats.SCORED_METRICS: Golden(f"{SCORED}/metrics.json", of_json(formats.SCORED_METRICS, scored_metrics)),
    formats.CLUSTER: Golden("cluster.json", _read),
    formats.PAYMENTS_TRUTH: Golden("payments/_truth.json", lambda path: read_truth(path.parent)),
}


def name_of(value: object) -> str:
    return str(value.relative_to(GOLDEN)) if isinstance(value, Path) else getattr(value, "kind", str(value))


def copied(file: Path, folder: Path) -> Path:
    """The file in a copy of what lies around it, which may be changed."""
    version = GOLDEN / file.relative_to(GOLDEN).parts[0]
    return Path(shutil.copytree(version, folder / "golden", symlinks=True)) / file.relative_to(version)


def put_envelope(path: Path, **envelope: object) -> None:
    """Write the file again with another envelope."""
    texts = {name.encode(): str(value).encode() for name, value in envelope.items()}
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata((table.schema.metadata or {}) | texts), path)
    elif path.suffix == ".arrow":
        path.write_bytes(pa.ipc.read_schema(path).with_metadata(texts).serialize().to_pybytes())
    else:
        path.write_text(json.dumps(json.loads(path.read_bytes()) | envelope))


def version_of(form: Format, path: Path) -> int:
    if path.suffix == ".parquet":
        return int((pq.ParquetFile(path).metadata.metadata or {}).get(b"version", b"1"))
    if path.suffix == ".arrow":
        return int((pa.ipc.read_schema(path).metadata or {}).get(b"version", b"1"))
    return form.read(path.read_bytes(), str(path), lambda document: document.version)


newest_files = pytest.mark.parametrize(
    ("form", "file"), [(form, golden.files[-1]) for form, golden in READERS.items() if golden.files], ids=name_of
)


@pytest.mark.parametrize("form", FORMATS, ids=name_of)
def test_every_version_of_a_format_has_golden_files(form: Format) -> None:
    assert form in READERS, f"say in READERS where golden files of {form.kind} lie, and what reads them"
    found = {version_of(form, file) for file in READERS[form].files}
    assert found == set(range(1, form.version + 1)), f"golden files of {form.kind}: see README.md"


def test_no_two_formats_have_one_name() -> None:
    assert len({form.kind for form in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize(
    ("form", "file"), [(form, file) for form, golden in READERS.items() for file in golden.files], ids=name_of
)
def test_golden_files_are_read(form: Format, file: Path) -> None:
    assert READERS[form].read(file) is not None


@newest_files
def test_a_newer_file_is_refused_by_name_and_says_to_upgrade(form: Format, file: Path, tmp_path: Path) -> None:
    path = copied(file, tmp_path)
    put_envelope(path, kind=form.kind, version=form.version + 1)
    with pytest.raises(FormatError, match="newer format") as refused:
        READERS[form].read(path)
    assert str(path) in refused.value.what
    assert refused.value.found == f"version {form.version + 1}"
    assert refused.value.next_step == "upgrade rayforest"


@newest_files
def test_a_file_of_another_kind_is_refused_by_name(form: Format, file: Path, tmp_path: Path) -> None:
    path = copied(file, tmp_path)
    put_envelope(path, kind="rayforest.other", version=1)
    with pytest.raises(FormatError, match="another kind") as refused:
        READERS[form].read(path)
    assert str(path) in refused.value.what
    assert (refused.value.expected, refused.value.found) == (form.kind, "rayforest.other")


@pytest.mark.parametrize("share", [0, 0.5])
@newest_files
def test_a_file_that_was_cut_is_damaged(form: Format, file: Path, share: float, tmp_path: Path) -> None:
    path = copied(file, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FormatError, match="is damaged") as refused:
        READERS[form].read(path)
    assert str(path) in refused.value.what
    assert refused.value.next_step == form.if_damaged


@pytest.mark.parametrize(
    ("form", "file"),
    [(form, golden.files[-1]) for form, golden in READERS.items() if golden.files and form is not formats.STEP_SCHEMA],
    ids=name_of,
)  # any schema is one
def test_a_file_without_its_own_keys_is_damaged(form: Format, file: Path, tmp_path: Path) -> None:
    path = copied(file, tmp_path)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"other": [1]}, metadata=form.metadata), path)
    else:
        path.write_bytes(form.write({}))
    with pytest.raises(FormatError, match="is damaged") as refused:
        READERS[form].read(path)
    assert str(path) in refused.value.what


@newest_files
def test_a_newer_file_with_other_keys_is_newer_and_not_damaged(form: Format, file: Path, tmp_path: Path) -> None:
    path, newer = copied(file, tmp_path), Format(form.kind, form.version + 1)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"other": [1]}, metadata=newer.metadata), path)
    elif path.suffix == ".arrow":
        path.write_bytes(pa.schema([], newer.metadata).serialize().to_pybytes())
    else:
        path.write_bytes(newer.write({}))
    with pytest.raises(FormatError, match="newer format"):
        READERS[form].read(path)


@pytest.mark.parametrize("version", [0, -1, "1", True, None, 1.0, [1]])
def test_a_version_that_is_no_number_from_1_is_damage(version: object) -> None:
    text = json.dumps({"kind": formats.CURRENT.kind, "version": version, "key": "a"}).encode()
    with pytest.raises(FormatError, match="x is damaged"):
        formats.CURRENT.read(text, "x", Document.copy)


def test_keys_of_the_envelope_cannot_be_a_documents_own() -> None:
    with pytest.raises(ValueError, match="kind"):
        formats.CURRENT.write({"kind": "mine"})


def test_files_of_releases_before_the_envelope_say_their_version_in_other_ways() -> None:
    form = Format("rayforest.example", 3)
    for text, version in ((b'{"x": 1}', 1), (b'{"format": 2, "x": 1}', 2), (b'{"format_version": 3, "x": 1}', 3)):
        document = form.read(text, "x", lambda document: document)
        assert (document, document.version) == ({"x": 1}, version)


READ_ELSEWHERE = {
    "cluster.dashboard": "what Ray answers",
    "cluster.jobs_api": "what a job prints",
    "cluster.shipping": "what a job prints",
    "engine.attempt": "the file that it has just written",
    "engine.commit": "its own text, to compare like with like",
    "engine.executors.ray_address": "what Ray answers",
    "scoring.delta_columns": "the schema of a Delta table",
    "stages.inputs": "its own text, to compare like with like",
    "tables.columnar": "users' tables",
    "tables.parquet": "users' tables",
    "tables.results": "a claim among users' files, which it only recognises",
    "tables.snapshots.iceberg": "users' tables",
    "tables.snapshots.layout": "an entry of a plan, whose version says that it is there",
    "testing.store_contract": "the file that it has just written",
}
"""Modules that decode JSON, Parquet or schemas past formats.py and engine/document.py, and what."""

DECODERS = {
    *("json.load", "json.loads"),
    *("pq.ParquetFile", "pq.read_table", "pq.read_metadata", "pq.read_schema", "pa.ipc.read_schema"),
}


def test_nothing_reads_our_files_past_the_check_of_their_formats() -> None:
    found = set()
    for folder in ("lib/rayforest", "cluster", "jobs"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            if DECODERS & {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}:
                name = file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
                found.add(name.removeprefix("lib.rayforest."))
    assert found == {*READ_ELSEWHERE, "formats", "engine.document"}


@pytest.mark.parametrize("form", [*FORMATS, formats.BUNDLE], ids=name_of)
def test_the_documentation_lists_every_format_with_its_version(form: Format) -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    assert re.search(rf"^\|[^|]+\| `{re.escape(form.kind)}` \| {form.version} \|", page, re.MULTILINE), form


def test_plan_keys_know_nothing_of_envelopes() -> None:
    claims = [json.loads(file.read_bytes()) for file in READERS[formats.CLAIM].files]
    enveloped = [claim["ingredients"] for claim in claims if "kind" in claim]
    assert enveloped
    for ingredients in enveloped:
        for document in (ingredients, ingredients.get("recipe", {}), ingredients.get("contract", {})):
            assert not {"kind", "version"} & document.keys()
