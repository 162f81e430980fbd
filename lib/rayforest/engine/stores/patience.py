"""How often and how long a request to an object store is tried."""

from __future__ import annotations

import errno
import random
import time
from dataclasses import dataclass, field

from rayforest.engine.stores.object_errors import BrokenError, ExpiredError
from rayforest.engine.stores.store import StoreUnavailableError


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds of one request: it is given up after whichever comes first."""

    retries: int = 10
    """Tries after the first one."""
    retry_s: float = 180
    """Seconds after which no other try begins."""
    first_pause_s: float = 0.1
    """Before the second try; each later pause is twice as long."""
    longest_pause_s: float = 15
    answer_s: float = 30
    """For one try, from its first byte to the answer's last."""
    renewals: int = 3
    """How often credentials are fetched anew."""
    renewal_pause_s: float = 0.5
    """Before the first of these; each later pause is twice as long."""


PATIENCE = Patience()
"""Of every bucket."""


@dataclass(slots=True)
class Tries:
    """Of one request: counts, waits, and in the end gives up."""

    patience: Patience
    failed: int = 0
    """Tries that may or may not have had their effect."""
    renewals: int = 0
    began: float = field(default_factory=time.monotonic)

    def wait(self, error: BrokenError | ExpiredError) -> None:
        """Pause before another try.

        Raises:
            StoreUnavailableError: there were enough.
            PermissionError: the credentials stay expired.
        """
        patience = self.patience
        if isinstance(error, ExpiredError):
            if self.renewals == patience.renewals:
                words = f"{error.words}, and no newer ones were found"
                raise PermissionError(errno.EACCES, words, error.uri) from None
            pause_s = patience.renewal_pause_s * 2**self.renewals
            self.renewals += 1
        else:
            pause_s = min(patience.longest_pause_s, patience.first_pause_s * 2**self.failed) * random.uniform(0.5, 1)  # noqa: S311  spreads clients
            self.failed += 1 + error.retries
            if self.failed > patience.retries or time.monotonic() + pause_s - self.began > patience.retry_s:
                raise StoreUnavailableError(errno.EIO, f"{error.words}, {self.failed} tries", error.uri) from None
        time.sleep(pause_s)
