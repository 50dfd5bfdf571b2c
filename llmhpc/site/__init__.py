"""What a site is like: facts that its Slurm tells, and whether a folder on it can be the root of runs."""
