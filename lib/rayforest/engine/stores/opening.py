"""From a path or URI to its store."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rayforest.engine.stores.local import LocalStore
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.store import Store
from rayforest.errors import ConfigError, path_text

_memory_stores: dict[str, MemoryStore] = {}


def open_store(uri: str | Path) -> Store:
    """The store that a path or URI names.

    Args:
        uri: a local path, `file://`, `memory://name`, or an object store's `s3://`, `gs://`, `az://`; its
            credentials come from the environment only.

    Raises:
        ConfigError: it is no path, the scheme is unknown, or the object store's configuration is incomplete.
    """
    text = path_text(uri, "there is no destination", "a folder or URI that a stage writes to, such as out/scored")
    try:
        os.fsencode(text)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(
            f"the name of the folder {text!r} cannot be used",
            expected="a name in UTF-8, and a process whose file names are UTF-8",
            found=f"file names in {sys.getfilesystemencoding()}",
            next_step="choose another folder, or start Python with PYTHONUTF8=1",
        ) from None
    if not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        return LocalStore(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return LocalStore(unquote(parts.path))
    if parts.scheme == "memory":
        return _memory_stores.setdefault(parts.netloc, MemoryStore(parts.netloc))
    from rayforest.engine.stores.object_store import ObjectStore

    return ObjectStore(text)
