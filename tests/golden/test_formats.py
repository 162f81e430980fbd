"""Each format that rayforest writes: golden files are read, newer, damaged and mistaken ones refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayforest import formats
from rayforest.engine.commit import Destination
from rayforest.engine.document import open_table, read_schema
from rayforest.engine.manifest import PART_SCHEMA, open_manifest
from rayforest.engine.plan import open_plan
from rayforest.engine.record import decode_record
from rayforest.engine.stores.opening import open_store
from rayforest.errors import FormatError
from rayforest.formats import Document, Format

GOLDEN = Path(__file__).parent
FORMATS = [value for value in vars(formats).values() if isinstance(value, Format)]


@dataclass(frozen=True)
class Golden:
    """Where files of a format lie in a folder of golden files, and what reads them today."""

    pattern: str
    read: Callable[[Path], object]
    """Reads the file, all of it."""

    @property
    def files(self) -> list[Path]:
        return sorted(GOLDEN.glob(f"*/{self.pattern}"))


def rows_of(form: Format, columns: list[str]) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        with open_table(open_store(path.parent), path.name, form, columns) as file:
            return file.read(columns).to_pylist()

    return read


VERSION = "out/*/" + "[0-9a-f]" * 32
"""The folder of a version, which has its plan key for a name."""

READERS = {
    formats.CLAIM: Golden("out/*/claims/*.json", lambda path: Destination(open_store(path.parents[1])).latest_claim()),
    formats.CURRENT: Golden("out/*/current/*.json", lambda path: Destination(open_store(path.parents[1])).current()),
    formats.PLAN: Golden(
        f"{VERSION}/plan.parquet", lambda path: list(open_plan(open_store(path.parent), path.name) or ())
    ),
    formats.STEP_SCHEMA: Golden(f"{VERSION}/**/schema.arrow", lambda path: read_schema(path.read_bytes(), str(path))),
    formats.RECORD: Golden(f"{VERSION}/**/records/*/*.json", lambda path: decode_record(path.read_bytes(), str(path))),
    formats.MANIFEST: Golden(
        f"{VERSION}/manifest.json", lambda path: open_manifest(open_store(path.parents[1]), path.parent.name)
    ),
    formats.MANIFEST_PART: Golden(f"{VERSION}/manifest-*.parquet", rows_of(formats.MANIFEST_PART, PART_SCHEMA.names)),
}


def name_of(value: object) -> str:
    return str(value.relative_to(GOLDEN)) if isinstance(value, Path) else getattr(value, "kind", str(value))


def copied(file: Path, folder: Path) -> Path:
    """The file in a copy of what lies around it, which may be changed."""
    version = GOLDEN / file.relative_to(GOLDEN).parts[0]
    return Path(shutil.copytree(version, folder / "golden", symlinks=True)) / file.relative_to(version)


def put_envelope(path: Path, **envelope: object) -> None:
    """Write the file again with another envelope."""
    texts = {name: str(value) for name, value in envelope.items()}
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
