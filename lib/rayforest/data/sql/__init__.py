"""The feature and rule language: SQL text, a small typed tree, Polars expressions."""

from rayforest.data.sql.expression import Expression
from rayforest.data.sql.parse import names_in, parse
from rayforest.data.sql.text import category_text

__all__ = ["Expression", "category_text", "names_in", "parse"]
