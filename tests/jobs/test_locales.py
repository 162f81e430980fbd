"""In every locale the same files are written, and whatever cannot be shown is escaped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from command import one_clear_message, rayforest

from rayforest import files, init, load_project
from rayforest.errors import ConfigError

POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SETTINGS = [
    POSIX,
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    POSIX | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict"},  # C and POSIX are two names of one locale
]


SERIES = """
import os, sys
from rayforest.jobs.cli import main
commands, streams = [[]], os.environ["STREAMS"]
for argument in sys.argv[1:]:
    commands.append([]) if argument == ";" else commands[-1].append(argument)
for number, command in enumerate(commands):
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{streams}/{number}.{name}", os.O_CREAT | os.O_WRONLY), stream)
    sys.argv = ["rayforest", *command]
    try:
        main()
    except SystemExit as ended:
        with open(f"{streams}/{number}.code", "w") as file:
            file.write(str(ended.code))
    sys.stdout.flush()
"""
"""Commands one after the other in one process, as importing everything takes longest."""


def commands(folder: Path, *series: Sequence[str | bytes], **settings: str) -> list[subprocess.CompletedProcess[bytes]]:
    """The command line in a locale."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO", "PYTHONUTF8"))}
    arguments = [part for command in series for part in (";", *command)][1:]
    with tempfile.TemporaryDirectory() as streams:
        done = subprocess.run(
            [sys.executable, "-c", SERIES, *arguments],
            cwd=folder,
            env=environment | {"LANG": "C.UTF-8", "STREAMS": streams} | settings,
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        found = []
        for number, command in enumerate(series):
            code, out, err = (Path(streams, f"{number}.{name}").read_bytes() for name in ("code", "out", "err"))
            assert b"Traceback" not in out + err
            assert b"unexpectedly" not in out + err
            found.append(subprocess.CompletedProcess(command, int(code), out, err))
        return found


def command(folder: Path, *arguments: str | bytes, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """One of them."""
    return commands(folder, arguments, **settings)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = "".join(f"{i},{i % 17 / 4},{('東京', 'Zürich', 'Łódź')[i % 3]},{int(i % 17 > 8)}\n" for i in range(300))
    (tmp_path / "données.csv").write_text("id,größe,都市,y\n" + rows, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: ",".join(f"{k}={v}" for k, v in s.items()))
def test_init_prints_the_same_bytes_and_check_and_prepare_work(
    folder: Path, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = command(folder, "init", "données.csv", **settings)
    monkeypatch.chdir(folder)
    assert (text.returncode, text.stdout) == (0, init("données.csv").encode())
    (folder / "größe.toml").write_bytes(text.stdout)
    assert "größe" in load_project(folder / "größe.toml").data.columns

    checked, prepared, shown, listed = commands(
        folder,
        ["check", "größe.toml"],
        ["prepare", "größe.toml", "--json", "--set", "project.root=größe"],
        ["show", "größe/prepared"],
        ["files", "größe/prepared"],
        **settings,
    )
    assert checked.returncode == 0, checked.stderr
    assert prepared.returncode == 0, prepared.stderr
    assert json.loads(prepared.stdout)["rows_out"] == 300
    assert "größe".encode() not in shown.stdout or "ascii" not in settings.get("PYTHONIOENCODING", "ascii")
    assert listed.stdout == "".join(f"{path}\n" for path in files(folder / "größe/prepared")).encode()
    assert listed.stdout.startswith(os.fsencode(folder) + "/größe/prepared/".encode())


def test_an_error_about_a_name_that_cannot_be_shown_is_escaped(folder: Path) -> None:
    done = command(folder, "init", "都市.csv", **POSIX)
    assert done.returncode == 2
    assert b"\\u90fd\\u5e02.csv" in done.stderr


def test_a_file_name_that_is_no_text_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = os.fsencode(folder) + b"/raw/caf\xe9.csv"
    (folder / "raw").mkdir()
    with open(bad, "wb") as file:  # noqa: PTH123  a Path is text
        file.write(b"id,y\n1,0\n")
    (folder / "project.toml").write_text('[project]\nname="p"\n[data]\nsource="raw"\n')
    done, begun = commands(folder, ["check", "project.toml", "--json"], ["init", bad], **POSIX)
    monkeypatch.chdir(folder)
    answer = rayforest("check", "project.toml", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (answer.code, answer.json)
    error = one_clear_message(answer, "check")
    assert answer.code == 2
    assert "not UTF-8" in error["what"]
    assert "caf\\udce9.csv" in error["what"]
    assert begun.returncode == 2
    assert rayforest("init", os.fsdecode(bad)).code == 2
    assert rayforest("prepare", "project.toml", "--set", "data.source=données.csv").code == 0
    checked, shown = commands(folder, ["check", b"pro\xe9ject.toml"], ["show", b"out\xe9/prepared"])
    assert (checked.returncode, b"does not exist" in checked.stderr) == (2, True)
    assert (shown.returncode, b"cannot be used" in shown.stderr) == (2, True)


def test_bars_on_a_terminal_without_utf8_are_ascii(folder: Path) -> None:
    pytest.importorskip("pty")
    code = (
        "import os, pty, sys\n"
        "sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, '-m', 'rayforest.jobs.cli', *sys.argv[1:]])))\n"
    )
    (folder / "project.toml").write_text('[project]\nname="p"\n[data]\nsource="données.csv"\n')
    done = subprocess.run(
        [sys.executable, "-c", code, "prepare", "project.toml"],
        cwd=folder,
        env=os.environ | POSIX | {"TERM": "xterm"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert b"prepare" in done.stdout
    assert b"\\u2501" not in done.stdout
    assert done.stdout.isascii()


def test_a_panic_in_native_code_and_a_librarys_warning_do_not_reach_the_user(folder: Path) -> None:
    code = (
        "import os, sys, time, warnings\n"
        "sys.argv = ['rayforest', 'check', 'none.toml', *sys.argv[1:]]\n"
        "import rayforest.jobs.look as look, rayforest.checking.check as checking\n"
        "def check(*_, **__):\n"
        "    warnings.warn('divide by zero', RuntimeWarning)\n"
        "    os.write(2, b'kept\\n')\n"
        "    time.sleep(0.2)\n"
        "    os.write(2, b\"\\nthread '<unnamed>' panicked at crates/x.rs:1:2:\\n\")\n"
        "    os.write(2, b'a message\\nof two lines\\nnote: run with `RUST_BACKTRACE=1`\\n')\n"
        "    raise BaseException('a panic')\n"
        "checking.check = check\n"
        "from rayforest.jobs.cli import main\n"
        "main()\n"
    )
    quiet = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert quiet.returncode == 1
    assert quiet.stderr.startswith("kept\n")
    assert "check failed unexpectedly: BaseException" in quiet.stderr
    for hidden in ("panicked", "two lines", "RUST_BACKTRACE", "divide"):
        assert hidden not in quiet.stderr
    loud = subprocess.run([sys.executable, "-c", code, "--debug"], capture_output=True, text=True, check=False)
    assert "panicked" in loud.stderr


def test_a_crash_is_told_although_panics_are_hidden() -> None:
    code = "import faulthandler, rayforest.native_output as n\nwith n.without_panics(): faulthandler._sigsegv()"
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", code], stderr=subprocess.PIPE, check=False)
    assert done.returncode < 0
    assert b"Segmentation fault" in done.stderr


def test_python_in_the_c_locale_refuses_names_that_it_cannot_write(folder: Path) -> None:
    (folder / "project.toml").write_text('[project]\nname="p"\n[data]\nsource="données.csv"\n', encoding="utf-8")
    code = (
        "import rayforest\ntry: rayforest.check('project.toml')\nexcept rayforest.RayforestError as e: print(ascii(e))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | POSIX, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert b"PYTHONUTF8=1" in done.stdout


def test_a_folder_whose_name_is_no_text_is_refused() -> None:
    from rayforest.engine.stores.opening import open_store

    with pytest.raises(ConfigError, match="cannot be used"):
        open_store("/tmp/\udce9")
