"""Scores of checkpoints that can be believed: lighteval's tasks and metrics, our own scoring, offline."""
