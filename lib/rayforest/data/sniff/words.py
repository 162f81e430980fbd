"""Words that stand for a missing value."""

NULL_WORDS = ("?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "\\N")
NULL_AMID_NUMBERS = ("None", "none", "-", "--", ".", "*", "missing", "unknown", "Unknown")
"""In a column of text these may be values; between numbers they are not."""
