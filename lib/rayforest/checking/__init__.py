"""check: what can be known before anything runs."""
