"""What the protocol asks of any store: writes that survive a lost answer, many requests at once, a proof of trust."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from rayforest.engine.stores.store import Store, StoreUnavailableError
from rayforest.errors import ConfigError

T = TypeVar("T")
R = TypeVar("R")


def settle(store: Store, path: str, data: bytes) -> bytes:
    """Create the file unless it exists, and return what is there afterwards.

    Stays right where an acknowledgement is lost, or where a request that seemed to fail takes effect later: the
    content decides, so it should say who wrote it.

    Raises:
        OSError: the store failed five times in a row, or says that it has tried for long itself. Whether the file
            exists, or will, is then unknown.
    """
    for attempt in range(5):
        try:
            if store.create(path, data):
                return data
            return store.get(path)
        except StoreUnavailableError:
            raise
        except OSError as error:
            failure = error
        with contextlib.suppress(OSError):  # absent, or still out of reach: try again
            return store.get(path)
        if attempt < 4:
            time.sleep(0.1 * 2**attempt)
    raise failure


def in_parallel(
    store: Store, request: Callable[[T], R], items: Iterable[T], *, window: int | None = None
) -> Iterator[R]:
    """Make a small request for each item, as many at once as the store likes; results come in the items' order.

    Args:
        store: whose liking decides.
        request: made for each item.
        items: pulled a window at a time.
        window: answers that are held at once, for those that are not small.
    """
    if store.concurrency == 1:
        yield from map(request, items)
        return
    remaining, window = iter(items), window or store.concurrency * 8
    with ThreadPoolExecutor(min(store.concurrency, window)) as pool:
        while asked := list(islice(remaining, window)):
            yield from pool.map(request, asked)


def prove_create_if_absent(store: Store) -> None:
    """Create a probe twice, and refuse a store that lets the second one through.

    Raises:
        ConfigError: the store overwrites, or cannot be written.
    """
    path = f"claims/probe-{secrets.token_hex(8)}"  # where the first claim will be, too
    try:
        first = settle(store, path, b"first")
        second = settle(store, path, b"second")
    except OSError as error:
        raise ConfigError(
            f"the destination {store.uri} cannot be written",
            found=f"{type(error).__name__}: {error}",
            next_step="check that it exists, has room and hard links (local), and what its credentials may do",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            store.delete([path])
    if (first, second) != (b"first", b"first"):
        raise ConfigError(
            f"the destination {store.uri} cannot create a file only if it is absent",
            expected="a second create of the same name to be refused: every row exactly once stands on it",
            found="it was let through",
            next_step="use a local disk, S3, GCS or Azure, or a server that honours If-None-Match",
        )
