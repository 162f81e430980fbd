"""The feature and rule language: SQL text, a small typed tree, Polars expressions."""

from rayforest.sql.casts import category_text
from rayforest.sql.expression import Expression
from rayforest.sql.parse import names_in, parse

__all__ = ["Expression", "category_text", "names_in", "parse"]
