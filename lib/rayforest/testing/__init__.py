"""Contracts that a class of your own can be tested by, with pytest, which nothing else of rayforest imports."""

import pytest

# Before its import, so that a failed assert shows its values as one in a test file does.
pytest.register_assert_rewrite("rayforest.testing.store_contract")

from rayforest.testing.store_contract import StoreContract  # noqa: E402

__all__ = ["StoreContract"]
