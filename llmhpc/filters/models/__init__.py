"""Models that rules score documents with: how each is trained, written and read."""
