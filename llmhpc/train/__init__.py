"""Training on nanotron: layouts, data order, schedule, checkpoints and exports. Nothing else knows nanotron."""
