"""Cross-entropy and z-loss over a vocabulary that is cut over the processes of a tensor-parallel group.

Shapes: S sequence, B micro-batch, V vocabulary of this process.
"""

from typing import Any

import nanotron.distributed as dist
import torch
from torch import nn

from llmhpc.models import Split


class _CrossEntropy(torch.autograd.Function):
    """Logits to cross-entropy and log Z, which both have a gradient; log Z is the logarithm of the softmax's denominator.

    The sum and the label's logit are met over the group. One float32 tensor of the logits' size is kept: the softmax,
    which becomes the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, logits_SBV: torch.Tensor, labels_SB: torch.Tensor, group: dist.ProcessGroup
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.set_materialize_grads(False)
        largest_SB = logits_SBV.amax(-1)
        dist.all_reduce(largest_SB, op=dist.ReduceOp.MAX, group=group)
        scores_SBV = logits_SBV - largest_SB.unsqueeze(-1)
        size = logits_SBV.shape[-1]
        places_SB = labels_SB - dist.get_rank(group) * size
        here_SB = (places_SB >= 0) & (places_SB < size)
        places_SB1 = places_SB.where(here_SB, 0).unsqueeze(-1)
        of_label_SB = scores_SBV.gather(-1, places_SB1).squeeze(-1) * here_SB
        dist.all_reduce(of_label_SB, group=group)
        softmax_SBV = scores_SBV.exp_()
        sum_SB = softmax_SBV.sum(-1)
        dist.all_reduce(sum_SB, group=group)
        softmax_SBV.div_(sum_SB.unsqueeze(-1))
        ctx.save_for_backward(softmax_SBV, places_SB1, here_SB.unsqueeze(-1))
        log_sum_SB = sum_SB.log()
        return log_sum_SB - of_label_SB, log_sum_SB + largest_SB

    @staticmethod
    def backward(
        ctx: Any, of_loss_SB: torch.Tensor, of_log_z_SB: torch.Tensor | None
    ) -> tuple[torch.Tensor, None, None]:
        """With p the softmax and 1 at the label: (p - 1) of_loss + p of_log_z = (p - 1) (of_loss + of_log_z) + of_log_z."""
        gradient_SBV, places_SB1, here_SB1 = ctx.saved_tensors
        gradient_SBV.scatter_add_(-1, places_SB1, -here_SB1.to(gradient_SBV))
        if of_log_z_SB is None:
            return gradient_SBV.mul_(of_loss_SB.unsqueeze(-1)), None, None
        gradient_SBV.mul_((of_loss_SB + of_log_z_SB).unsqueeze(-1))
        gradient_SBV.scatter_add_(-1, places_SB1, of_log_z_SB.unsqueeze(-1) * here_SB1)
        return gradient_SBV, None, None


class Loss(nn.Module):
    """Mean of cross-entropy times weight, in nats per token, in float32, and of the z-loss times weight.

    The z-loss, ``z_loss`` log^2 Z (Chowdhery et al., arXiv:2204.02311, section 5), draws log Z to 0, which cross-entropy
    leaves free. ``loss`` is the sum, which is learnt from; ``row_losses`` (B,) are the sums of each sequence's cross-entropy.
    """

    def __init__(self, split: Split, z_loss: float) -> None:
        super().__init__()
        self.group, self.z_loss = split.context.tp_pg, z_loss

    def forward(
        self, logits: torch.Tensor, label_ids: torch.Tensor, label_weights: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        labels_SB = label_ids.transpose(0, 1).contiguous()
        weights_SB = label_weights.transpose(0, 1)
        losses_SB, log_z_SB = _CrossEntropy.apply(logits.float(), labels_SB, self.group)
        weighed_SB = losses_SB * weights_SB
        cross_entropy = weighed_SB.mean()
        z_loss = torch.zeros_like(cross_entropy)
        if self.z_loss:
            z_loss = self.z_loss * (log_z_SB.square() * weights_SB).mean()
        return {
            "loss": cross_entropy + z_loss,
            "cross_entropy": cross_entropy,
            "z_loss": z_loss,
            "row_losses": weighed_SB.detach().sum(0),
        }
