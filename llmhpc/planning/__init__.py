"""Settings in, steps out: names, directories, fingerprints. Touches no disk."""
