"""The model as others use it: export it, load it, score with it."""
