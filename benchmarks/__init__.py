"""One file a question, each beside its peers. `python -m benchmarks [--quick] [NAME...]` runs them."""

import os

from rayforest.engine.arrow_memory import KEPT_MEMORY

os.environ.update(KEPT_MEMORY | os.environ)  # as the command line does, for every contender alike
