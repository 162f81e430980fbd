"""State folders and a project file: what the tests of clusters share."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared_cluster import use_state_folder


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state folder in place of the user's, and none of the user's tokens."""
    home = tmp_path / "state"
    use_state_folder(monkeypatch, home)
    return home


@pytest.fixture
def project(tmp_path: Path) -> Path:
    file = tmp_path / "project.toml"
    file.write_text('[project]\nname = "demo"\n[data]\nsource = "rows.csv"\n')
    return file
