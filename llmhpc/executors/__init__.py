"""Where tasks run: this machine or a Slurm cluster."""
