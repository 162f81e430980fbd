"""Whether a destination can be read and written, as far as looking tells: what `check` asks, and every stage first."""

from __future__ import annotations

import os
from pathlib import Path

from rayforest.engine.stores.local import LocalStore
from rayforest.engine.stores.opening import open_store
from rayforest.errors import ConfigError


def refuse_unusable(destination: str | Path) -> None:
    """Refuse a destination that no run could use. Nothing is written: `prove_create_if_absent` does that, in a run.

    Raises:
        ConfigError: there is a file in the place of a folder, or no permission to read and write, or the store does
            not answer.
    """
    store = open_store(destination)
    if not isinstance(store, LocalStore):
        try:
            next(iter(store.list("claims")), None)
        except OSError as error:
            raise _refusal(
                store.uri, error.strerror or str(error), "check the address, the network and the credentials"
            ) from error
        return
    folder = store.root
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise _refusal(store.uri, f"{folder} is not a folder", "choose another project.root or score.destination")
    wanted = os.R_OK | os.W_OK | os.X_OK
    if not os.access(folder, wanted, effective_ids=os.access in os.supports_effective_ids):
        raise _refusal(store.uri, f"no permission to read and write in {folder}", "see to its permissions")


def _refusal(uri: str, found: str, next_step: str) -> ConfigError:
    return ConfigError(
        f"the destination {uri} cannot be used",
        expected="a folder, or a place for one, that can be read and written",
        found=found,
        next_step=next_step,
    )
