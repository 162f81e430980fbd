"""Words that stand for a missing value."""

NULL_WORDS = ("?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "\\N")
NULL_AMID_NUMBERS = (
    *("None", "none", "-", "--", ".", "..", "*", "missing", "Missing", "unknown", "Unknown"),
    *("na", "n.a.", "N.A.", "NAN", "Null"),
    *("#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!"),
)
"""In a column of text these may be values; between numbers they are not."""

NEARLY_ALL = 0.95
"""Share of numbers that makes a column one of numbers with some dirt in it."""
