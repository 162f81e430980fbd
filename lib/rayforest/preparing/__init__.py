"""prepare: raw tables to checked, cleaned and split feature shards."""
