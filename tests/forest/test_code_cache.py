"""Machine code on disk: taken only where it is whole, nobody else's, and made of today's sources."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rayforest.forest import code_cache, compiling

CODE = bytes(range(256)) * 40


def test_what_was_kept_is_found_and_nothing_else(tmp_path: Path) -> None:
    code_cache.keep(tmp_path / "made", "a.o", CODE)
    assert code_cache.find(tmp_path / "made", "a.o") == CODE
    assert code_cache.find(tmp_path / "made", "b.o") is None
    assert code_cache.find(tmp_path / "none", "a.o") is None
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["a.o"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept[:-100],
        lambda kept: kept[:5_000] + b"\xff" + kept[5_001:],
        lambda kept: b"\0" + kept[1:],
        lambda kept: kept[:20],
        lambda _: b"",
    ],
    ids=["cut off", "a byte of the code", "a byte of its digest", "less than a digest", "empty"],
)
def test_code_that_is_not_whole_is_not_taken(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    code_cache.keep(tmp_path, "a.o", CODE)
    file = tmp_path / "a.o"
    file.write_bytes(damage(file.read_bytes()))
    assert code_cache.find(tmp_path, "a.o") is None


@pytest.mark.parametrize("open_to_others", [".", "a.o"])
def test_code_that_others_may_write_is_not_taken(tmp_path: Path, open_to_others: str) -> None:
    code_cache.keep(tmp_path, "a.o", CODE)
    (tmp_path / open_to_others).chmod(0o777)
    assert code_cache.find(tmp_path, "a.o") is None


def test_a_folder_that_others_may_write_is_not_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="others may write there"):
        code_cache.keep(tmp_path, "a.o", CODE)
    assert list(tmp_path.iterdir()) == []


def test_a_change_of_any_source_of_the_kernel_is_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiling._key("float64")
    copied = shutil.copytree(Path(compiling.__file__).parent, tmp_path / "forest")
    monkeypatch.setattr(compiling, "__file__", str(copied / "compiling.py"))
    assert compiling._key("float64") == before != compiling._key("float32")
    assert {"kernel.py", "lanes.py"} <= set(compiling._SOURCES)
    for name in compiling._SOURCES:
        text = (copied / name).read_text()
        (copied / name).write_text(text + "\n# changed\n")
        assert compiling._key("float64") != before
        (copied / name).write_text(text)
