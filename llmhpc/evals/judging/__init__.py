"""What answers are worth: metrics, errors, the signal of tasks, verdicts on data, the best checkpoint."""
