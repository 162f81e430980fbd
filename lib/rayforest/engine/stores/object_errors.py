"""What obstore raises, as the OSErrors that a local disk would raise: in a few words, without addresses.

obstore's texts hold the address, which may hold a signature, and the store's answer, which may hold an access key: of
these only status, code, the number of retries and the system's words are taken.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from rayforest.engine.stores.store import ReplacedError, StoreUnavailableError

_ADDRESS = re.compile(r"https?://\S+")
_MACHINE = re.compile(r"//(169\.254\.\d+\.\d+|metadata\.google\.internal)/|/latest/(api|meta-data)/|/metadata/identity")
"""Services of a machine that hand out its credentials."""
_STATUS = re.compile(r"status code:? (\d{3}[A-Za-z ]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_RETRIES = re.compile(r"after (\d+) retries")
_EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_PASSING_CODES = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout"}
"""Of refusals that hold for a moment. obstore takes the first ones for `exists already`."""
_CONNECTION = re.compile(r"HTTP error|response body")
_SYSTEM_WORDS = re.compile(r'message: "([A-Z][a-z ]+)"')


class BrokenError(Exception):
    """A try failed in a way that may pass. Whether a write had its effect is open."""

    def __init__(self, words: str, uri: str, retries: int) -> None:
        super().__init__(words)
        self.words, self.uri = words, uri
        self.retries = retries
        """That obstore made already."""


class ExpiredError(Exception):
    """The store says that the credentials have expired. Nothing was done."""

    def __init__(self, words: str, uri: str) -> None:
        super().__init__(words)
        self.words, self.uri = words, uri


class ExistsError(FileExistsError):
    """There is such an object."""

    retries = 0
    """That obstore made before it was told so: an earlier try may have made the object."""


@contextlib.contextmanager
def as_os_errors(uri: str) -> Iterator[None]:
    """Translate what is raised in the block.

    Raises:
        BrokenError, ExpiredError: another try may help.
        ExistsError, FileNotFoundError, ReplacedError, PermissionError, StoreUnavailableError: none does.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, in_few_words(str(error)), uri) from None
    except BaseError as error:
        raise _passing(error, uri) or _lasting(error, uri) from None


def _passing(error: BaseError, uri: str) -> BrokenError | ExpiredError | None:
    """What another try may help against."""
    text, status, code = str(error), _status(str(error))[:3], _code(str(error))
    first_line = _ADDRESS.sub("", text.split("\n", 1)[0])
    if _MACHINE.search(text):
        return None
    if code in _PASSING_CODES or status in ("408", "429") or status.startswith("5"):
        return BrokenError(in_few_words(text), uri, _retries(text))
    if not status and _CONNECTION.search(first_line):
        return BrokenError(in_few_words(text), uri, _retries(text))
    if code in _EXPIRED_CODES or (not status and "expired" in first_line):
        return ExpiredError("the credentials have expired", uri)
    unauthenticated = status == "401" or isinstance(error, UnauthenticatedError)
    if unauthenticated or (status == "400" and not code):  # S3's answer to HEAD has no body, so no code
        return ExpiredError(f"{in_few_words(text)}, as where credentials have expired", uri)
    return None


def _lasting(error: BaseError, uri: str) -> OSError:
    """By the status of the answer: obstore's own classes tell less of a listing than of a read."""
    text, status = str(error), _status(str(error))[:3]
    words = in_few_words(text)
    if _MACHINE.search(text):
        return PermissionError(errno.EACCES, f"no credentials were found, and the machine gives none: {words}", uri)
    if isinstance(error, AlreadyExistsError):
        exists = ExistsError(errno.EEXIST, words, uri)
        exists.retries = _retries(text)
        return exists
    if status in ("412", "416") or isinstance(error, PreconditionError):  # another etag; shorter than it was
        return ReplacedError(errno.ESTALE, words, uri)
    if status == "404":
        return FileNotFoundError(errno.ENOENT, words, uri)
    if status == "403" or isinstance(error, PermissionDeniedError):
        return PermissionError(errno.EACCES, words, uri)
    return StoreUnavailableError(errno.EIO, words, uri)


def in_few_words(text: str) -> str:
    """Status and code; else what the system said; else the end of the first line."""
    if status := _status(text):
        return f"{status}, {code}" if (code := _code(text)) else status
    if words := _SYSTEM_WORDS.search(text):
        return words[1].lower()
    if "TimedOut" in text:
        return "no answer in time"
    return _ADDRESS.sub("the store", text.split("\n", 1)[0]).rpartition(" - ")[2][:300].strip()


def _status(text: str) -> str:
    found = _STATUS.search(text)
    return found[1].strip() if found else ""


def _code(text: str) -> str:
    found = _CODE.search(text)
    return found[1] if found else ""


def _retries(text: str) -> int:
    found = _RETRIES.search(text.split("\n", 1)[0])
    return int(found[1]) if found else 0
