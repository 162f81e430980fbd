"""JSON documents of a store, told apart from damaged ones and from those of a newer rayforest."""

from __future__ import annotations

import json
from typing import Any

from rayforest.engine.stores.store import Store
from rayforest.errors import RayforestError


def read_document(store: Store, path: str, newest: int, *keys: str) -> dict[str, Any] | None:
    """A JSON object that rayforest wrote; None where there is none.

    Args:
        store: where it lies.
        path: in the store.
        newest: the greatest `format` that is read; a document without one is of the first.
        keys: that a document of these formats has.

    Raises:
        RayforestError: it is damaged, or of a newer format.
    """
    damaged = RayforestError(
        f"{store.locate(path)} is damaged",
        expected="the JSON object that rayforest wrote",
        next_step="restore it from a copy, or choose another destination",
    )
    try:
        document = json.loads(store.get(path))
        found = document.get("format", 1)
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):
        raise damaged from None
    if not isinstance(found, int) or found > newest:
        raise RayforestError(
            f"{store.locate(path)} has a newer format than this rayforest reads",
            expected=f"format {newest} or older",
            found=f"format {found}",
            next_step="upgrade rayforest",
        )
    if any(key not in document for key in keys):
        raise damaged
    return document  # type: ignore[no-any-return]
