"""Work on shards; knows nothing of machine learning."""
