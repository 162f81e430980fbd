"""The layers of the library: imports run downward only, and nowhere in a circle."""

from __future__ import annotations

import ast
import os
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from xml.etree import ElementTree

import pytest

LIBRARY = Path(__file__).parents[1] / "lib" / "rayforest"
DOCS = Path(__file__).parents[1] / "docs"

LAYERS = (
    ("errors", "kinds", "native_output", "process_settings"),
    ("formats",),
    ("engine", "sql", "forest"),
    ("onnx", "project"),
    ("tables", "payments"),
    ("features",),
    ("metrics",),
    ("stages", "starter"),
    ("preparing",),
    ("tuning",),
    ("bundle",),
    ("scoring",),
    ("checking",),
    ("api", "testing"),
    ("__init__",),
    ("cluster",),
    ("jobs",),
)
"""From the floor up. A room may use the layers below it, and nothing beside it."""

HEIGHT = {room: height for height, layer in enumerate(LAYERS) for room in layer}


def module_files() -> dict[str, Path]:
    """Every module of the library by its name without `rayforest.`; a package by the name of its folder."""
    found = {}
    for folder, _, names in os.walk(LIBRARY, followlinks=True):  # jobs and cluster are links
        for name in names:
            if name.endswith(".py"):
                file = Path(folder, name)
                parts = file.relative_to(LIBRARY).with_suffix("").parts
                found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = file
    return found


MODULES = module_files()


def imports_of(module: str, *, typing_too: bool) -> set[str]:
    """The modules of the library that a module imports, wherever the statement stands."""
    found = set[str]()
    waiting: list[ast.AST] = [ast.parse(MODULES[module].read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typing_too:
            waiting += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rayforest":
            base = (node.module or "").removeprefix("rayforest").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found.add(inner if inner in MODULES else base or "__init__")
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names if alias.name.partition(".")[0] == "rayforest")
            found |= {name.removeprefix("rayforest").lstrip(".") or "__init__" for name in names}
        waiting += ast.iter_child_nodes(node)
    return found - {module}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_has_its_layer() -> None:
    assert {room_of(module) for module in MODULES} == set(HEIGHT)


@pytest.mark.parametrize("room", sorted(HEIGHT))
def test_a_room_uses_only_what_lies_below_it(room: str) -> None:
    upward = [
        f"{module} imports {used}"
        for module in MODULES
        if room_of(module) == room
        for used in imports_of(module, typing_too=True)
        if room_of(used) != room and HEIGHT[room_of(used)] >= HEIGHT[room]
    ]
    assert upward == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: imports_of(module, typing_too=False) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_the_picture_of_the_layers_shows_them_as_they_are() -> None:
    picture = ElementTree.parse(DOCS / "figures" / "layers.svg").getroot()
    svg = "{http://www.w3.org/2000/svg}"
    drawn = []
    for group in picture.iter(f"{svg}g"):
        rooms = group.findall(f"{svg}text[@class='room']")
        height = min(float(room.attrib["y"]) for room in rooms)
        drawn.append((height, {(room.text or "").removesuffix("/").removesuffix(".py") for room in rooms}))
    assert [height for height, _ in drawn] == sorted({height for height, _ in drawn})
    assert [rooms for _, rooms in reversed(drawn)] == [set(layer) for layer in LAYERS]


def test_the_design_says_what_each_room_is_for() -> None:
    table = (DOCS / "design.md").read_text(encoding="utf-8").partition("## Layers")[2].partition("\n## ")[0]
    told = set(re.findall(r"`(\w+)(?:/|\.py)`", "".join(re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE))))
    assert told == set(HEIGHT)
