"""llmhpc: from a crawl to a chat model on a Slurm cluster."""
