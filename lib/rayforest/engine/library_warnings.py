"""Python's warnings of numpy, LightGBM and others: for their programmers, not for whoever runs a command."""

from __future__ import annotations

import sys
import warnings


def hide_library_warnings() -> None:
    """In this process, from now on; not where -W or PYTHONWARNINGS asks for them."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
