"""Text tables: rows found in bytes, broken ones told apart, whole ones read as strings."""

from rayforest.data.csv.head import read_head
from rayforest.data.csv.infer import guess_each
from rayforest.data.csv.no_rows import NoRows, why_no_row
from rayforest.data.csv.pieces import count_pieces
from rayforest.data.csv.read import SAMPLE_ROWS, read_rows, sample_rows

__all__ = ["SAMPLE_ROWS", "NoRows", "count_pieces", "guess_each", "read_head", "read_rows", "sample_rows", "why_no_row"]
