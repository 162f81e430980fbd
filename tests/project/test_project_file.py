"""The project file: every mistake is one message that names the key, the line and the nearest valid name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from small_projects import PROJECT, Ran, orders, write_orders, write_project

import rayforest
from rayforest.errors import ConfigError, InputError
from rayforest.project.load import load_project

HEAD = '[project]\nname = "t"\n\n[data]\nsource = "raw"\n'


def refused(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> ConfigError:
    path = folder / "project.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_project(path, overrides)
    shown = str(caught.value)
    for python in ("pydantic", "dictionary", "tuple", "instance", "None", "input should"):
        assert python not in shown
    return caught.value


@pytest.mark.parametrize(
    ("lines", "line", "what", "expected", "next_step"),
    [
        ('targt = "y"', 6, "unknown key 'data.targt'", "one of source,", "did you mean 'target'?"),
        ("[tune]\ntrial = 3", 7, "unknown key 'tune.trial'", "one of metric,", "did you mean 'trials'?"),
        ("[tun]\ntrials = 3", 6, "unknown key 'tun'", "one of project,", "did you mean 'tune'?"),
        ("[data.columns]\nx = { type = 'number', maxi = 3 }", 7, "unknown key 'data.columns.x.maxi'", "", "'max'?"),
        ("[data.format]\ndelimeter = ';'", 7, "unknown key 'data.format.delimeter'", "", "did you mean 'delimiter'?"),
        (
            "[split]\nshares = { train = 1, vald = 0 }",
            7,
            "unknown key 'split.shares.vald'",
            "",
            "did you mean 'valid'?",
        ),
        ("[tune]\ntrials = 'many'", 7, "tune.trials is not valid", "a whole number", ""),
        ("[tune]\ntrials = 0", 7, "tune.trials is not valid", "at least 1", ""),
        ("[tune]\nbudget_s = 0", 7, "tune.budget_s is not valid", "a number above 0", ""),
        ("[tune]\nmetric = 'acu'", 7, "tune.metric is not valid", "one of 'auc'", "did you mean 'auc'?"),
        ("error_budget = 'lots'", 6, "data.error_budget is not valid", "a number", ""),
        ("error_budget = -1", 6, "data.error_budget is not valid", "at least 0", ""),
        ("key = 3", 6, "data.key is not valid", "a list", ""),
        ("key = ['id', 'id']", 6, "data.key is not valid", "each column once", ""),
        ("[split]\nkey = ['id', 'id']", 7, "split.key is not valid", "each column once", ""),
        ("positive = 2024-01-01", 6, "data.positive is not valid", "a text in quotes", ""),
        ("on_bad_row = 'drop'", 6, "data.on_bad_row is not valid", "one of 'quarantine', 'fail'", "valid names"),
        ("columns = 3", 6, "data.columns is not valid", "a table", ""),
        ("rules = 3", 6, "data.rules is not valid", "a table", ""),
        ("format = 'cvs'", 6, "data.format is not valid", "one of 'parquet', 'csv', 'arrow'", "did you mean 'csv'?"),
        ("[data.columns]\nx = 'numbr'", 7, "data.columns.x is not valid", "one of 'number'", "did you mean 'number'?"),
        ("[data.columns]\nx = { type = 'number', min = 'a' }", 7, "data.columns.x is not valid", "numbers as min", ""),
        ("[data.columns]\nx = { type = 'string', min = 1 }", 7, "data.columns.x is not valid", "this column is a", ""),
        ("[data.columns]\nx = { type = 'timestamp', min = 5 }", 7, "data.columns.x is not valid", "dates or texts", ""),
        ("[data.columns]\nx = { type = 'number', values = ['a'] }", 7, "data.columns.x is not valid", "number", ""),
        ("[data.columns]\nx = { type = 'number', max = inf }", 7, "data.columns.x.max is not valid", "a finite", ""),
        ("[split]\nshares = [0.5, 0.5]", 7, "split.shares is not valid", "three shares", ""),
        ("[split]\nshares = [0.5, 0.4, 0.2]", 7, "split.shares is not valid", "add up to 1; these make 1.1", ""),
        ("[features]\nx = 3", 7, "features.x is not valid", "a text in quotes", ""),
        ("[run]\nexecutor = 3", 7, "run.executor is not valid", "one of 'auto', 'in-process'", "write one of them"),
        ("[run]\nworkers = true", 7, "run.workers is not valid", "a whole number", ""),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_line(
    tmp_path: Path, lines: str, line: int, what: str, expected: str, next_step: str
) -> None:
    error = refused(tmp_path, HEAD + lines)
    assert f"project.toml, line {line}: {what}" in error.what
    assert expected in error.expected
    assert next_step in error.next_step


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", r"[project] is missing (and 1 more after this one)"),
        ('[project]\nname = "t"\n', "[data] is missing"),
        ('[project]\n[data]\nsource = "x"\n', "project.name is missing"),
        ('[project]\nname = "t"\n[data]\n', "data.source is missing"),
        ('[project]\nname = "a b"\n[data]\nsource = "x"\n', "project.name is not valid"),
        ("[project\nname = 3", "is not valid TOML"),
        ('base = "x"\n' + HEAD, "unknown key 'base'"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, text: str, what: str) -> None:
    assert what in refused(tmp_path, text).what


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("tune", "--set 'tune' is not understood"),
        ("tune=3", "--set 'tune=3' is not understood"),
        ("=3", "--set '=3' is not understood"),
        ("project.name.x=3", "--set 'project.name.x=3': name is a value, not a table"),
        ("a.b=3", "unknown key 'a'"),
        ("run.workers=two", "run.workers is not valid"),
        ("data.source=", "data.source is not valid"),
        ("data.format.delimiter=;;", "data.format.delimiter is not valid"),
        ("data.source=${NO_SUCH_VARIABLE}", "data.source uses ${NO_SUCH_VARIABLE}, which is not set"),
    ],
)
def test_a_bad_override_is_named(tmp_path: Path, override: str, what: str) -> None:
    assert what in refused(tmp_path, HEAD, (override,)).what


def test_an_error_in_an_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    for override, subject in (
        ("data.targt=y", "--set data.targt"),
        ("split.shares={vald=0}", "--set split.shares: unknown key"),
    ):
        error = refused(tmp_path, HEAD + "\n[tune]\ntrials = 3", (override,))
        assert error.what.startswith(subject)
        assert "project.toml" not in error.what
    assert "project.toml, line 6" in refused(tmp_path, HEAD + "targt = 1", ("tune.trials=3",)).what


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("$PLACE/x", "somewhere/x"),
        ("${PLACE}/x", "somewhere/x"),
        ("a-$PLACE.csv", "a-somewhere.csv"),
        ("${NO_SUCH_VARIABLE:-else/where}/x", "else/where/x"),
        ("${EMPTY:-else}", "else"),
        ("${PLACE:-else}", "somewhere"),
        ("price in $$/$$PLACE/$${PLACE}", "price in $/$PLACE/${PLACE}"),
    ],
)
def test_variables_in_paths_are_replaced_in_every_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, meaning: str
) -> None:
    monkeypatch.setenv("PLACE", "somewhere")
    monkeypatch.setenv("EMPTY", "")
    file = tmp_path / "project.toml"
    file.write_text(HEAD.replace("raw", text) + f"[score]\nsource = ['{text}']\n")
    project = load_project(file, [f"project.root={text}", f"score.destination={text}"])
    assert project.data.source == project.score.source == (meaning,)
    assert project.project.root == project.score.destination == meaning


@pytest.mark.parametrize(
    ("text", "what", "next_step"),
    [
        ("$NO_SUCH_VARIABLE/x", "data.source uses ${NO_SUCH_VARIABLE}, which is not set", "${NO_SUCH_VARIABLE:-"),
        ("cost in $.csv", "data.source has '$.', which is no variable", "write $$"),
        ("a$", "data.source has '$', which is no variable", "write $$"),
        ("${PLACE", "data.source has '${PLACE', which is no variable", "write $$"),
        ("${PLACE:+x}", "data.source has '${PLACE:+x}', which is no variable", "write $$"),
        ("${PLACE:-$HOME}", "data.source has '${PLACE:-$HOME}', which is no variable", "write $$"),
        ("~no-such-user/x", "data.source begins with ~no-such-user", "./~"),
    ],
)
def test_a_dollar_sign_or_a_tilde_is_never_taken_literally_in_silence(
    tmp_path: Path, text: str, what: str, next_step: str
) -> None:
    error = refused(tmp_path, HEAD.replace("raw", text))
    assert what in error.what
    assert next_step in error.next_step


def test_sql_and_other_texts_keep_their_dollar_signs_and_take_variables_in_braces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMIT", "3")
    features = {"a": "cost = '$9'", "b": "x > ${LIMIT}", "c": "x = '$${LIMIT}'", "d": "x = '$$'", "e": "x > ${NONE:-4}"}
    text = HEAD + "[features]\n" + "".join(f'{name} = "{sql}"\n' for name, sql in features.items())
    (tmp_path / "project.toml").write_text(text)
    assert load_project(tmp_path / "project.toml").features.expressions == {
        "a": "cost = '$9'",
        "b": "x > 3",
        "c": "x = '${LIMIT}'",
        "d": "x = '$$'",
        "e": "x > 4",
    }
    error = refused(tmp_path, HEAD + "[features]\nx = '${1}'")
    assert ("features.x has '${1}'" in error.what, "write $${" in error.next_step) == (True, True)


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "raw.csv").write_text("x,y\n1,0\n2,1\n")
    (tmp_path / "project.toml").write_text(HEAD.replace("raw", "~/raw.csv").replace("[data]", 'root = "~/o"\n[data]'))
    assert rayforest.check(tmp_path / "project.toml").files == 1
    assert load_project(tmp_path / "project.toml").root == str(tmp_path / "o")


def test_what_init_writes_about_a_name_with_a_dollar_sign_means_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "$HOME ${x}.csv").write_text("id,${PATH},y\n" + "".join(f"{i},{i % 5},{i % 2}\n" for i in range(50)))
    (tmp_path / "project.toml").write_text(rayforest.starter_project(["$HOME ${x}.csv"], target="y"))
    report = rayforest.check(tmp_path / "project.toml")
    assert (report.files, "${PATH}" in report.features) == (1, True)


def test_files_that_are_no_project_file(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes("[project]\nname = 'ü'".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    for name, found in (("latin.toml", "bytes that are not UTF-8"), ("folder", "a folder"), ("gone.toml", "")):
        with pytest.raises(ConfigError, match=f"project file .*{name}") as caught:
            load_project(tmp_path / name)
        assert caught.value.found == found
    (tmp_path / "folder" / "churn.toml").write_text(HEAD)
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path / "folder")
    assert caught.value.next_step == f"name the file in it, such as {tmp_path / 'folder' / 'churn.toml'}"


NO_PATHS = (None, 3, b"project.toml", 3.5, True, "a\0b")


@pytest.mark.parametrize("given", NO_PATHS, ids=repr)
def test_what_is_no_path_is_refused_by_every_public_function(given: Any) -> None:
    for of_projects in ("check", "prepare", "tune", "export", "score", "run", "load_project"):
        with pytest.raises(ConfigError, match="there is no project") as caught:
            getattr(rayforest, of_projects)(given)
        assert "a project file" in caught.value.expected
        assert caught.value.found.startswith(("None", "a value of the type", "a name with a NUL"))
    for of_results in ("files", "show", "read", "dataset"):
        with pytest.raises(ConfigError, match="there is no destination"):
            getattr(rayforest, of_results)(given)
    for of_data in (rayforest.init, lambda data: rayforest.starter_project(data, target=None)):
        for data in (given, [given]):
            with pytest.raises(ConfigError, match="there are no data to look at"):
                of_data(data)
    with pytest.raises(ConfigError, match="there is no folder"):
        rayforest.generate_payments(given, rows=1)


@pytest.mark.parametrize("overrides", [None, 3, [None], {"tune.trials": 3}])
def test_overrides_that_are_no_texts_are_refused(tmp_path: Path, overrides: Any) -> None:
    (tmp_path / "project.toml").write_text(HEAD)
    for project in (tmp_path / "project.toml", load_project(tmp_path / "project.toml")):
        with pytest.raises(ConfigError, match="overrides are not understood"):
            rayforest.check(project, overrides=overrides)


def test_overrides_come_before_variables_and_paths_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "somewhere")
    (tmp_path / "project.toml").write_text("\ufeff" + HEAD, encoding="utf-8")
    overrides = [
        "data.source=${PLACE}/x",
        'features.twice="amount * 2"',
        "features.plain=amount + 1",
        "tune.trials=7",
        'data.columns."odd name"="number"',
        'data.columns."odd name".min=0',
        "data.format.delimiter=;",
    ]
    project = load_project(tmp_path / "project.toml", overrides)
    assert project.data.source == ("somewhere/x",)
    assert project.features.expressions == {"twice": "amount * 2", "plain": "amount + 1"}
    assert (project.tune.trials, project.data.columns["odd name"].min) == (7, 0)
    assert project.data.format.delimiter == ";"
    assert project.stage("prepared") == str(tmp_path / "out/prepared")
    assert project.locate("s3://bucket/x") == "s3://bucket/x"


def test_dates_may_stand_without_quotes(tmp_path: Path) -> None:
    (tmp_path / "project.toml").write_text(HEAD + "[data.columns]\nx = { type = 'timestamp', min = 2024-01-31 }\n")
    assert load_project(tmp_path / "project.toml").data.columns["x"].min == dt.date(2024, 1, 31).isoformat()


def test_check_tells_what_a_project_would_do_and_runs_nothing(ran: Ran, tmp_path: Path) -> None:
    report = rayforest.check(ran.folder / "project.toml", overrides=[f'project.root="{tmp_path}"'])
    assert (report.files, report.key, report.target) == (3, ("id",), '"bought"')
    assert report.features == {
        "amount": "number",
        "ratio": "number",
        "colour": "category",
        "hour": "number",
        "is_member": "boolean",
    }
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "error", "what"),
    [
        ('data.source="nowhere"', InputError, "'nowhere' does not exist"),
        ('data.source="raw/*.csv"', InputError, "no file matches"),
        ('score.source="nowhere"', InputError, "'nowhere' does not exist"),
        ('data.key="ident"', ConfigError, "data.key: the data has no column 'ident'"),
        ('data.target="bougt"', ConfigError, "data.target: there is no column 'bougt'"),
        ('features.x="SUM(amount)"', ConfigError, "features.x: the aggregate SUM is refused"),
        ('features.x="UPPER(colour)"', ConfigError, "the ONNX graph cannot compute these features exactly"),
        ("tune.space.num_leavs=3", ConfigError, "tune.space.num_leavs is no parameter of LightGBM"),
    ],
)
def test_check_finds_what_the_stages_would(ran: Ran, setting: str, error: type[Exception], what: str) -> None:
    with pytest.raises(error) as caught:
        rayforest.check(ran.folder / "project.toml", overrides=[setting])
    assert what in str(caught.value)


@pytest.mark.parametrize("name", ["raw_score", "probability", "prediction"])
def test_check_refuses_a_feature_column_named_like_an_output_of_the_graph(tmp_path: Path, name: str) -> None:
    write_orders(tmp_path, orders(50).rename({"visits": name}))
    text = PROJECT.replace("visits", name)
    with pytest.raises(ConfigError, match=f"the column '{name}' cannot be an input of the ONNX model") as caught:
        rayforest.check(write_project(tmp_path, text))
    assert 'export.graph = "trees"' in caught.value.next_step
    rayforest.check(write_project(tmp_path, text), overrides=["export.graph=trees"])


def test_check_knows_columns_of_the_score_source(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(20))
    orders(5).rename({"customer": "client"}).write_parquet(tmp_path / "new.parquet")
    project = write_project(tmp_path, score='source = "new.parquet"\ncarry = "client"')
    assert rayforest.check(project).score_files == 1
    with pytest.raises(ConfigError, match=r"score.carry: new.parquet has no column 'customer'"):
        rayforest.check(project, overrides=["score.carry=customer"])
