"""Where files live: local disks, object stores, memory."""

from rayforest.engine.stores.store import Entry, Store

__all__ = ["Entry", "Store"]
