"""What the documentation calls public exists and is described, and is all that the public packages offer."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## `([\w.]+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
PUBLIC = {package: re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for package, text in SECTIONS}


def test_the_documentation_names_the_public_packages() -> None:
    assert set(PUBLIC) == {
        "rayforest",
        "rayforest.engine.stores",
        "rayforest.errors",
        "rayforest.forest",
        "rayforest.onnx",
        "rayforest.testing",
    }


@pytest.mark.parametrize("package", PUBLIC)
def test_the_documentation_lists_exactly_what_a_public_package_offers(package: str) -> None:
    offered = importlib.import_module(package).__all__
    assert sorted(PUBLIC[package]) == sorted(offered)
    assert len(set(offered)) == len(offered)


@pytest.mark.parametrize(("package", "name"), [(package, name) for package in PUBLIC for name in PUBLIC[package]])
def test_a_public_name_exists_and_says_what_it_is(package: str, name: str) -> None:
    assert inspect.getdoc(getattr(importlib.import_module(package), name))


def test_nothing_but_the_contracts_for_others_imports_pytest() -> None:
    public = sorted(PUBLIC.keys() - {"rayforest.testing"})
    program = (
        "import importlib, sys\n"
        "sys.modules['pytest'] = None  # an import of it fails, as where it is not installed\n"
        f"for name in {public!r}:\n"
        "    module = importlib.import_module(name)\n"
        "    for public in module.__all__:\n"
        "        getattr(module, public)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
