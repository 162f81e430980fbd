"""What all areas share: one thread for the native libraries, and no cluster of the user's."""

from __future__ import annotations

import os
import signal

import pytest
from examples import examples
from hypothesis import settings

from rayforest.process_settings import ONE_THREAD

pytest_plugins = ["built_projects", "object_servers", "cloud_servers", "shared_cluster", "second_node"]

settings.register_profile("rayforest", examples(40))
settings.load_profile("rayforest")

# A shell that starts the tests in the background lets them ignore Ctrl-C, which some of them send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.update(ONE_THREAD | os.environ)


@pytest.fixture(autouse=True)
def _no_cluster_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` must not find a cluster that the user's shell names."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
