"""Tables that a log or a catalog describes (Delta, Iceberg): one snapshot of each, read as the Parquet files it names.

The log decides what a folder cannot: which files belong to the snapshot, which of their rows were deleted, what the
columns are called now, and the values of partitions. The rows come through the same Parquet reader as all others.
"""
