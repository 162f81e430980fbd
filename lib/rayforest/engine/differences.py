"""What differs between two runs into one destination, in a user's words: settings by their names, inputs by file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

JSON: TypeAlias = Any
"""What `json.dumps` takes: mappings with text keys, lists, text, numbers, booleans, None."""

_SHOWN = 12
_SHOWN_FILES = 3
_SHOWN_CHARACTERS = 60
_HASH = re.compile(r"[0-9a-f]{32,64}")
_RESULTS = {"prepared": "what prepare wrote", "tuned": "the model", "bundle": "the bundle"}


def differences(
    before: Mapping[str, JSON],
    now: Mapping[str, JSON],
    files_before: Sequence[tuple[str, str]] | None,
    files_now: Sequence[tuple[str, str]],
    *,
    all_before: bool = True,
) -> str:
    """The first of what differs, in one line.

    Args:
        before: settings of the run that the destination belongs to.
        now: settings of this run.
        files_before: (path, identity) of its inputs; None where they are not known.
        files_now: those of this run.
        all_before: whether `files_before` is complete; else it is a beginning.
    """
    found = list(_settings("", before, now))
    if files_before is not None and files_now:
        found += _files(files_before, files_now, all_before=all_before)
    shown = found[:_SHOWN]
    if len(found) > len(shown):
        shown.append(f"and {len(found) - len(shown)} more")
    return "; ".join(shown) or "other inputs: which ones was not kept"


def _settings(where: str, before: JSON, now: JSON) -> Iterator[str]:
    if before == now:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(name for name in now if name not in before)]:
            path = f"{where}.{name}" if where else str(name)
            if name not in now:
                yield f"{path} removed"
            elif name not in before:
                yield f"{path} added: {_brief(now[name])}"
            else:
                yield from _settings(path, before[name], now[name])
        return
    if isinstance(now, str) and _HASH.fullmatch(now):
        yield f"{_RESULTS.get(where, where)} has changed"
    else:
        yield f"{where}: {_brief(before)} -> {_brief(now)}"


def _files(before: Sequence[tuple[str, str]], now: Sequence[tuple[str, str]], *, all_before: bool) -> Iterator[str]:
    old, new = dict(before), dict(now)
    changes = {
        "added": [path for path in new if path not in old] if all_before else [],
        "removed": [path for path in old if path not in new],
        "changed": [path for path in new if path in old and old[path] != new[path]],
    }
    for change, paths in changes.items():
        if paths:
            more = ", ..." if len(paths) > _SHOWN_FILES else ""
            names = ", ".join(islice(paths, _SHOWN_FILES))
            yield f"{len(paths)} input{'s' if len(paths) > 1 else ''} {change}: {names}{more}"
    if not any(changes.values()):
        moved = next(((a, b) for (a, _), (b, _) in zip(before, now, strict=False) if a != b), None)
        if moved is not None:
            yield f"another order of the inputs: {moved[1]} comes where {moved[0]} was"
        elif not all_before:
            yield f"another input than the first {len(before):,}"


def _brief(value: JSON) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
