"""tune: feature shards to an evaluated model."""
