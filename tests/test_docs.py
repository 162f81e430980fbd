"""What the documentation shows works: its project files are valid, its commands exist, its reference is today's."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from rayforest.jobs.cli import COMMANDS
from rayforest.project.load import load_project
from rayforest.project.sections import FormatSection

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OTHER_COMMANDS = {"cluster"}


def blocks(language: str) -> list[str]:
    return [text for page in PAGES for text in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_project_files_of_the_documentation_are_valid(tmp_path: Path) -> None:
    shown = blocks("toml")
    assert len(shown) >= 3
    for text in shown:
        table = tomllib.loads(text)
        if "project" in table:
            file = tmp_path / "project.toml"
            file.write_text(text)
            load_project(file)
        else:
            FormatSection.model_validate(table["data"]["format"])


def test_commands_of_the_documentation_exist() -> None:
    known = {command.__name__ for commands in COMMANDS.values() for command in commands} | OTHER_COMMANDS
    named = {name for page in PAGES for name in re.findall(r"^ {4}rayforest ([a-z]+)", page.read_text(), re.MULTILINE)}
    assert {"init", "check", "run"} <= named
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_reference_is_written_from_todays_models() -> None:
    reference = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))["reference"]
    page = ROOT / "docs" / "reference" / "project-file.md"
    assert page.read_text() == reference(), "run: python docs/make_reference.py"
