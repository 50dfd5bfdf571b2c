"""The stages: one file for each kind of work, with its settings and its run."""
