"""What the README and the first guide show is what happens: commands run, outputs are today's, folders are there."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command import rayforest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "first-project.md").read_text(encoding="utf-8")

LITERAL = {"generate", "init", "check"}
"""Commands that say the same on every machine. The others train, and tell seconds and where results lie."""


@dataclass(frozen=True)
class Shown:
    """A command of the README with the output under it."""

    command: str
    output: list[str]


def only_block(pattern: str) -> str:
    (block,) = re.findall(pattern, README, re.DOTALL | re.MULTILINE)
    assert isinstance(block, str)
    return block


def session() -> list[Shown]:
    """The commands of the block that shows a terminal."""
    commands = re.split(r"^\$ ", only_block(r"^```console\n(.*?)^```"), flags=re.MULTILINE)[1:]
    return [Shown(command, output) for command, *output in (text.splitlines() for text in commands)]


def run(command: str) -> str:
    """Run a line of the README in this process; `> FILE` is done, a remark after # is none of its words.

    Returns:
        What a terminal would show.
    """
    program, *arguments = shlex.split(command, comments=True)
    assert program == "rayforest"
    *arguments, target = arguments if ">" in arguments[:-1] else [*arguments, ""]
    answer = rayforest(*(argument for argument in arguments if argument != ">"))
    assert answer.code == 0, answer.err
    if target:
        Path(target).write_text(answer.out, encoding="utf-8")
        return answer.err
    return answer.err + answer.out


def comparable(line: str, *, literal: bool) -> str:
    """The line without widths of columns and, unless literal, without what differs between machines.

    Whole numbers stay: the same rows are prepared and scored everywhere.
    """
    if not literal:
        line = re.sub(r"(?<=\s)/\S+", "PATH", line)
        line = re.sub(r"\d+\.\d+", "FRACTION", line)
    return " ".join(line.split())


def first_difference(shown: Shown, real: list[str]) -> str | None:
    """The first line, shown or real, that has no counterpart at its place; None if there is none.

    A shown line `...` stands for any lines, `...` at the end of a line for the rest of it.
    """
    literal = shown.command.split()[1] in LITERAL
    rest = [comparable(line, literal=literal) for line in real]
    anywhere = False
    for line in shown.output:
        if line == "...":
            anywhere = True
            continue
        wanted = comparable(line.removesuffix("..."), literal=literal)
        fits = wanted.__eq__ if not line.endswith("...") else lambda text, start=wanted: text.startswith(start)
        place = next((n for n, text in enumerate(rest if anywhere else rest[:1]) if fits(text)), None)
        if place is None:
            return line
        rest, anywhere = rest[place + 1 :], False
    return rest[0] if rest and not anywhere else None


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Shown, list[str]]]:
    """Each shown command with what it really says, run one after the other in an empty folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        patch.delenv("RAY_ADDRESS", raising=False)
        return [(shown, run(shown.command).splitlines()) for shown in session()]


def test_the_readme_shows_what_the_commands_say(terminal: list[tuple[Shown, list[str]]]) -> None:
    assert {"init", "check", "run", "show"} <= {shown.command.split()[1] for shown, _ in terminal}
    for shown, real in terminal:
        assert first_difference(shown, real) is None, "\n".join(real)


def test_an_output_of_other_words_would_be_noticed(terminal: list[tuple[Shown, list[str]]]) -> None:
    for shown, real in terminal:
        for place, line in enumerate(shown.output):
            if line != "...":
                changed = [*shown.output[:place], f"other {line}", *shown.output[place + 1 :]]
                assert first_difference(Shown(shown.command, changed), real) == f"other {line}"
        if shown.output[-1] != "...":
            assert first_difference(shown, [*real, "a line more"]) == "a line more"


def customers(rows: int, *, seed: int) -> pl.DataFrame:
    """Rows with the columns that the README's project file names."""
    rng = np.random.default_rng(seed)
    age, income = rng.integers(18, 90, rows), rng.gamma(3.0, 12_000.0, rows).round()
    return pl.DataFrame(
        {
            "customer_id": np.arange(rows) + seed * rows,
            "age": age,
            "income": income,
            "household": rng.integers(0, 6, rows),
            "city": rng.choice(["Lyon", "Porto", "Ghent"], rows),
            "churned": age + income / 2_000 + rng.normal(0, 10, rows) > 75,
        }
    )


def test_its_first_commands_lead_from_a_csv_file_to_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    customers(400, seed=1).write_csv("raw/customers.csv")
    commands = re.findall(r"^ {4}(rayforest .*project\.toml.*)", README, re.MULTILINE)
    assert [line.split()[1] for line in commands] == ["init", "check", "run"]
    for line in commands:
        run(line)
    assert rayforest("show", "out/scored", "--json").json["rows_out"] == 400


def test_the_guide_leads_from_nothing_to_scores_and_quarantine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = [
        run(line) for line in re.findall(r"^ {4}(rayforest .*)", GUIDE.partition("## On real data")[0], re.MULTILINE)
    ]
    *_, scored, quarantine = said
    assert pl.read_parquet(scored.split()).height == rayforest("show", "out/scored", "--json").json["rows_out"]
    assert set(pl.read_parquet(quarantine.split()).columns) == {"file", "row", "reason", "raw"}
    project = Path("project.toml").read_text(encoding="utf-8")
    assert '# key = "payment_id"' in project
    Path("project.toml").write_text(project.replace('# key = "payment_id"', 'key = "payment_id"'), encoding="utf-8")
    assert "x the key is repeated" in run("rayforest prepare project.toml --replace")


def test_its_project_file_and_its_python_work_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, seed in (("raw", 1), ("new", 2)):
        Path(folder).mkdir()
        customers(400, seed=seed).write_parquet(f"{folder}/customers.parquet")
    Path("project.toml").write_text(only_block(r"^```toml\n(.*?)^```"), encoding="utf-8")
    run("rayforest run project.toml --set tune.trials=3")
    names: dict[str, Any] = {}
    exec(compile(only_block(r"^```python\n(.*?)^```"), "README.md", "exec"), names)
    assert capsys.readouterr().out == "400 400 0\n"
    assert names["frame"].columns == ["customer_id", "city", "prediction", "probability"]
    assert names["frame"].height == 400


def test_its_folders_are_those_of_the_project() -> None:
    tree = README.partition("## Where things are")[2]
    shown, inside = set[str](), ""
    for line in re.findall(r"^ {4}( *[a-z].*)", tree, re.MULTILINE):
        folders = re.match(r" *((?:[a-z/]+/ ?)+)", line)
        assert folders, line
        inside = "lib/rayforest/" if line.startswith(" ") else ""
        shown |= {f"{inside}{folder}" for folder in folders.group(1).split()}
    assert {folder for folder in shown if not (ROOT / folder).is_dir()} == set()
    library = {f"lib/rayforest/{p.parent.name}/" for p in (ROOT / "lib" / "rayforest").glob("*/__init__.py")}
    assert library - shown == {"lib/rayforest/jobs/", "lib/rayforest/cluster/"}  # links to the folders at the top
    named = re.findall(r"`((?:lib|jobs|cluster|benchmarks|docs)/[\w./]*)`", README)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_its_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^ {4}|`)make ([a-z]+)", README, re.MULTILINE))
    assert {"demo", "test", "docs", "bench"} <= named
    assert [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
