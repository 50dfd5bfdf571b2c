"""Kernels: for each a reference, a fast version and a chooser that says which was taken and why."""
