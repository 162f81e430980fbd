"""The objects that a table's log names: what the store shows of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from rayforest.engine.stores.bucket import Bucket, ObjectMeta, bucket_of
from rayforest.engine.stores.object_uri import ObjectUri, is_object_uri
from rayforest.errors import InputError

_AT_ONCE = 32
"""Requests for single objects."""


def look_up(uris: Sequence[str], root: str) -> Iterator[tuple[str, ObjectMeta | OSError]]:
    """Each of some objects: by one listing of the table's folder, and those that it does not show by themselves.

    Args:
        uris: of the objects.
        root: absolute path or URI of the table's folder.

    Raises:
        InputError: the table's folder cannot be listed.
    """
    places = {uri: ObjectUri.parse(uri) for uri in uris}
    listed = _below(ObjectUri.parse(root), places) if is_object_uri(root) else {}
    yield from listed.items()
    others = [uri for uri in places if uri not in listed]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from zip(others, pool.map(lambda uri: _head(places[uri]), others), strict=True)


def _below(root: ObjectUri, places: dict[str, ObjectUri]) -> dict[str, ObjectMeta]:
    """Of the objects below a folder, those that its listing shows; it holds files of other versions, too."""
    above = f"{root.key}/" if root.key else ""
    wanted = {
        place.key: uri
        for uri, place in places.items()
        if (place.scheme, place.bucket) == (root.scheme, root.bucket) and place.key.startswith(above)
    }
    if not wanted:
        return {}
    begin = os.path.commonprefix([key.removeprefix(above) for key in wanted])  # noqa: RUF071  keys are text
    try:
        return {wanted[seen.key]: seen for seen in bucket_of(root).walk(root.key, begin) if seen.key in wanted}
    except OSError as error:
        raise InputError(
            f"the table's folder {root} cannot be listed",
            found=(error.strerror or str(error)).lower(),
            next_step="see to what the credentials may do: they list and read",
        ) from error


def _head(place: ObjectUri) -> ObjectMeta | OSError:
    bucket: Bucket = bucket_of(place)
    try:
        return bucket.head(place.key)
    except OSError as error:
        return error
