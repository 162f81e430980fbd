"""Feature shards to an evaluated model."""
