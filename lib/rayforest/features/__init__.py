"""From raw columns to what a model sees, and what was learnt on the way."""
