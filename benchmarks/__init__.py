"""One file a question, each beside its peers. `python -m benchmarks [--quick] [NAME...]` runs them."""

from rayforest.process_settings import keep_memory

keep_memory()  # as the command line does, for every contender alike
