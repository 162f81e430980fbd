"""score: a bundle and raw tables to scored Parquet."""
