"""Tables: read, check, cleaned, described, split."""
