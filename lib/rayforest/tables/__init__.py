"""Raw tables: list, open, read, with every row accounted for."""
