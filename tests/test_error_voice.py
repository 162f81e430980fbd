"""Errors speak with one voice: lower case, no full stop, and a next step wherever there is one."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import rayforest
from rayforest import errors

PACKAGE = Path(rayforest.__file__).parent
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
NAMES = {"LightGBM", "None", "Numba", "Ray", "ZipMap"}
"""What a text may begin with in upper case, beside abbreviations and words of SQL."""

WORDED_ELSEWHERE = {
    ("checking/preview.py", "error.what"): "the error of prepare, with another next step",
    ("errors.py", "what"): "the words of the caller, which are read there",
    ("jobs/cli.py", "said[:1].lower() + said[1:].removesuffix('.')"): "the words of the command line's library",
    ("preparing/empty_parts.py", "_are_empty(missing) + why"): "which parts are empty, in the words of a function",
    ("sql/parse.py", "what.format(name=name)"): "the table of what SQL has and this language has not",
    ("sql/position.py", "f'{self.where}: {what}'"): "the words of the caller, which are read there",
    ("starter/starter.py", "_NO_DATA"): "read as path_text's",
}
"""Errors whose sentence does not stand where they are made: the file, the expression, and where it stands instead."""

WITHOUT_NEXT_STEP = {
    ("project/explain.py", "f'{where}: {key} is not valid{tail}'"): "`expected` says what to write, and `what` where",
}
"""Errors that cannot say what to do beyond what they say already: the file, the sentence, and the reason."""


@dataclass(frozen=True)
class Site:
    """A place that makes an error."""

    file: str
    """Relative to the package."""
    line: int
    kind: str
    """The class; "path_text" or "sql" where that makes it; "ValueError" of a validator, which becomes `expected`."""
    what: ast.expr
    others: dict[str, ast.expr]
    """`expected`, `found` and `next_step`, where they are given."""

    @property
    def key(self) -> tuple[str, str]:
        return self.file, ast.unparse(self.what)


def sites_in(file: str, text: str) -> Iterator[Site]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[what], keywords=keywords) if name in ERRORS:
                yield Site(file, node.lineno, name, what, {str(one.arg): one.value for one in keywords})
            case ast.Call(func=ast.Name(id="path_text"), args=[_, what, expected]):
                yield Site(file, node.lineno, "path_text", what, {"expected": expected})
            case ast.Call(func=ast.Attribute(attr="error"), args=[what, *_], keywords=keywords) if "sql/" in file:
                yield Site(file, node.lineno, "sql", what, {str(one.arg): one.value for one in keywords})
            case ast.Raise(exc=ast.Call(func=ast.Name(id="ValueError"), args=[what])) if file == "project/sections.py":
                yield Site(file, node.lineno, "ValueError", what, {})


def all_sites() -> Iterator[Site]:
    for folder, _, names in os.walk(PACKAGE, followlinks=True):  # jobs and cluster are links in the source tree
        for path in (Path(folder, name) for name in names if name.endswith(".py")):
            yield from sites_in(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))


def ends(text: ast.expr) -> Iterator[tuple[str, str]]:
    """How each wording of a text begins and ends; empty where a value stands there."""
    match text:
        case ast.Constant(value=str(value)):
            yield value, value
        case ast.JoinedStr(values=[first, *_] as parts):
            ((begin, _),), ((_, end),) = list(ends(first)), list(ends(parts[-1]))
            yield begin, end
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*ends(body), *ends(orelse))
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            yield from ((begin, "") for begin, _ in ends(left))
            yield from (("", end) for _, end in ends(right))
        case _:
            yield "", ""


def is_worded(text: ast.expr) -> bool:
    """Whether a word of the sentence stands in the text."""
    constants = (node.value for node in ast.walk(text) if isinstance(node, ast.Constant))
    return any(isinstance(value, str) and re.search(r"[a-z]{2}", value) for value in constants)


def faults(site: Site) -> Iterator[str]:
    for part, text in (("what", site.what), *site.others.items()):
        for begin, end in ends(text):
            word = re.match(r"[A-Z]\w*", begin)
            if word and word[0] not in NAMES and not re.fullmatch(r"[A-Z_\d]{2,}", word[0]):
                yield f"{part} begins in upper case: {begin}"
            if end.endswith(".") and not end.endswith("..."):
                yield f"{part} ends with a full stop: {end}"
    if not is_worded(site.what) and site.kind != "ValueError" and site.key not in WORDED_ELSEWHERE:
        yield f"its sentence stands elsewhere: {site.key}"
    step = site.others.get("next_step")
    says_nothing = step is None or (isinstance(step, ast.Constant) and not step.value)
    if site.kind == "sql":
        if says_nothing and "expected" not in site.others:
            yield "it says neither what SQL is expected nor what to do"
    elif site.kind in ERRORS and says_nothing and site.key not in WITHOUT_NEXT_STEP:
        yield f"it has no next step: {site.key}"


def test_every_error_is_in_lower_case_without_a_full_stop_and_says_what_to_do() -> None:
    found = [f"{site.file}:{site.line}: {fault}" for site in all_sites() for fault in faults(site)]
    assert not found, "\n" + "\n".join(found)


def test_errors_of_all_folders_and_kinds_are_read() -> None:
    sites = list(all_sites())
    assert {"bundle", "cluster", "engine", "jobs", "sql", "tables", "tuning"} <= {s.file.split("/")[0] for s in sites}
    assert {site.kind for site in sites} == ERRORS | {"path_text", "sql", "ValueError"}


def test_no_exception_to_the_rules_outlives_its_error() -> None:
    keys = {site.key for site in all_sites()}
    assert WORDED_ELSEWHERE.keys() | WITHOUT_NEXT_STEP.keys() <= keys


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ('ConfigError("The key is wrong", next_step="mend it")', "what begins in upper case"),
        ('ConfigError(f"Shard {n} is gone", next_step="mend it")', "what begins in upper case"),
        ('ConfigError(f"{key} is wrong" if key else "No key is right", next_step="mend it")', "what begins"),
        ('InputError("the file is gone.", next_step="mend it")', "what ends with a full stop"),
        ('InputError("the file is gone", next_step=f"look for {it}.")', "next_step ends with a full stop"),
        ('InputError("the file is gone", expected="A file", next_step="mend it")', "expected begins in upper case"),
        ('BundleError("the file is gone", found="nothing")', "it has no next step"),
        ('BundleError("the file is gone", next_step="")', "it has no next step"),
        ('RefusedError(sentence, next_step="mend it")', "its sentence stands elsewhere"),
        ('path_text(given, "There is no path", "a path")', "what begins in upper case"),
        ('source.error("this is no SQL", node)', "it says neither"),
    ],
)
def test_another_voice_is_heard(code: str, fault: str) -> None:
    (site,) = sites_in("sql/example.py", code)
    assert [found for found in faults(site) if found.startswith(fault)] != []


@pytest.mark.parametrize(
    "code",
    [
        'ConfigError(f"{path} is gone", expected="LightGBM, or a file ...", next_step="mend it")',
        'ConfigError("LightGBM refuses a trial", next_step=hint)',
        'source.error("DATEDIFF needs a unit", node, expected="DATEDIFF(\'day\', start, end)")',
    ],
)
def test_names_and_words_of_sql_keep_their_case(code: str) -> None:
    (site,) = sites_in("sql/example.py", code)
    assert list(faults(site)) == []
