"""Validation: the vectorised row check, quarantine, and the Great Expectations gate of each lake zone."""
