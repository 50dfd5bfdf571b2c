"""Measurements against named peers, and trials of strength; never part of the tests."""
