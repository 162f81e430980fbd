"""Bundle and table to predictions."""
