"""A run under injected faults on a real Slurm, compared with one that nobody disturbed."""
