"""What Arrow's allocator, mimalloc, does with memory that is free for the moment."""

from __future__ import annotations

KEPT_MEMORY = {"MIMALLOC_PURGE_DELAY": "-1"}
"""Environment of processes that do nothing but our work: what a batch gave back is kept for the next one. By default it
goes back to the system after a moment, which zeroes each page again: a fifth of the time where row groups are large."""
