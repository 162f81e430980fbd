"""One file a question, each beside its peers. `python -m benchmarks [--quick] [NAME...]` runs them."""
