"""Near-duplicate documents: found and removed."""
