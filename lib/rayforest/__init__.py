"""Distributed batch machine learning for tables, on Ray."""
