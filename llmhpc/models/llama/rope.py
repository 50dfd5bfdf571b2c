"""Rotary positions: how fast each pair of components turns, with the slower turns of Llama 3.1 for long contexts."""

import math

import torch

from llmhpc.models.llama import Rope


def frequencies(rope: Rope, head_dim: int, device: torch.device) -> torch.Tensor:
    """Radians per position of each pair of components, (D/2,), float32 (Su et al. 2021, arXiv:2104.09864).

    With a factor, as apply_scaling of Meta's llama_models (models/llama3/model.py, Llama 3.1; arXiv:2407.21783):
    what turns often in the original context stays, what turns seldom is slowed down by the factor, in between is
    interpolated.
    """
    powers = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    plain = 1.0 / rope.theta**powers
    if rope.factor == 1:
        return plain
    turns = rope.original_positions * plain / (2 * math.pi)  # in the original context
    low, high = rope.low_frequency_factor, rope.high_frequency_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * plain + (1 - kept) * plain / rope.factor
