"""The global gradient norm and the cut to its limit.

nanotron's clip_grad_norm asks for a CUDA tensor on a process that owns no gradient (tied embeddings on the last stage),
and sums a whole tensor's squares in float32, which on a CPU is off by 1e-5 and differs between layouts.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist

SMALLEST_NORM = 1e-6  # added to the norm, as torch.nn.utils.clip_grad_norm_ does


def clip_gradients(
    gradients: Iterable[tuple[torch.Tensor, bool]],
    *,
    limit: float,
    group: dist.ProcessGroup,
    device: torch.device,
) -> torch.Tensor:
    """Scale gradients in place so that their global norm is at most ``limit``; returns the norm before.

    Each gradient comes with whether this process counts it: one process of ``group`` (those that make up one replica)
    counts each of the tied ones.
    """
    gradients = list(gradients)
    norms = [_norm(gradient) for gradient, counted in gradients if counted]
    squares = torch.stack(norms).square().sum() if norms else torch.zeros((), device=device)
    dist.all_reduce(squares, group=group)
    total = squares.sqrt()
    scale = (limit / (total + SMALLEST_NORM)).clamp(max=1.0)
    torch._foreach_mul_([gradient for gradient, _ in gradients], scale)
    return total


def _norm(gradient: torch.Tensor) -> torch.Tensor:
    """The norm of the rows' norms: short sums stay exact in float32."""
    rows = torch.linalg.vector_norm(gradient.detach(), dim=-1, dtype=torch.float32)
    return torch.linalg.vector_norm(rows)
