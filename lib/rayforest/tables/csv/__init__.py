"""Text tables: rows found in bytes, broken ones told apart, whole ones read as strings."""

from rayforest.tables.csv.head import read_head
from rayforest.tables.csv.infer import guess_each
from rayforest.tables.csv.no_rows import NoRows, why_no_row
from rayforest.tables.csv.pieces import count_pieces
from rayforest.tables.csv.read import SAMPLE_ROWS, read_rows, sample_rows

__all__ = ["SAMPLE_ROWS", "NoRows", "count_pieces", "guess_each", "read_head", "read_rows", "sample_rows", "why_no_row"]
