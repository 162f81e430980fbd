"""The feature and rule language: SQL text, a small typed tree, Polars expressions."""

from rayforest.data.sql.expression import Expression
from rayforest.data.sql.parse import parse
from rayforest.data.sql.text import category_text

__all__ = ["Expression", "category_text", "parse"]
