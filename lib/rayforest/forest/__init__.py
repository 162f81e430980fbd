"""The tree kernel."""
