"""What the documentation shows works: its project files are valid, its commands exist, its reference is today's."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_group

from rayforest.cluster.cloud.description import ClusterDescription
from rayforest.jobs.cli import app
from rayforest.project.load import load_project
from rayforest.project.sections import FormatSection, ScoreSection

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE_WIDTH = 88
"""Characters that a code block shows beside the navigation, in a window of 1280 pixels."""


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
        elif "cluster" in table:
            ClusterDescription.model_validate(table)
        elif "data" in table:
            FormatSection.model_validate(table["data"]["format"])
        else:
            ScoreSection.model_validate(table["score"])


def options_of(group: TyperGroup, before: str = "") -> dict[str, set[str]]:
    """Each command, such as `run` or `cluster up`, with its options."""
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            found |= options_of(command, f"{name} ")
        else:
            names = [option for one in command.params for option in (*one.opts, *one.secondary_opts)]
            found[before + name] = {option for option in names if option.startswith("--")}
    return found


def shown_options(page: Path) -> dict[str, set[str]]:
    """The same, as the page has them: in lines of commands, after a prompt, and amid text. `a|b` is a command each."""
    found: dict[str, set[str]] = {}
    for names, rest in re.findall(
        r"(?:^ {4}|^\$ |`)rayforest ((?:cluster )?[a-z|]+)((?:[^`\n#]|\n {8,})*)", page.read_text(), re.MULTILINE
    ):
        before, _, last = names.rpartition(" ")
        for name in last.split("|"):
            options = found.setdefault(f"{before} {name}".strip(), set())
            options |= set(re.findall(r"(?<![\w-])--[a-z-]+", rest))
    return found


def test_commands_and_options_of_the_documentation_exist() -> None:
    known = options_of(get_group(app))
    assert {"init", "check", "run"} <= set(shown_options(ROOT / "README.md"))
    for page in PAGES:
        for command, options in shown_options(page).items():
            assert command in known, page
            assert options <= known[command], (page, command)


def test_the_page_of_commands_has_every_command_and_option() -> None:
    known = options_of(get_group(app))
    assert shown_options(ROOT / "docs" / "reference" / "commands.md") == known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_code_fits_the_column_of_the_site() -> None:
    for page in PAGES:
        if page.name != "README.md":
            fenced = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
            lines = "\n".join(fenced).splitlines() + re.findall(r"^ {4}(.*)", page.read_text(), re.MULTILINE)
            assert [line for line in lines if len(line) > CODE_WIDTH] == [], page


def test_nothing_of_the_documentation_is_a_link_of_the_file_system() -> None:
    assert [path for path in (ROOT / "docs").rglob("*") if path.is_symlink()] == [], (
        "the builder of the site skips them"
    )


def test_the_reference_is_written_from_todays_models() -> None:
    reference = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))["reference"]
    page = ROOT / "docs" / "reference" / "project-file.md"
    assert page.read_text() == reference(), "run: python docs/make_reference.py"
