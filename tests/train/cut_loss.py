"""Losses of a vocabulary cut over processes, against torch's own: process 0 prints the largest differences as JSON.

torchrun --nproc_per_node=2 cut_loss.py
"""

import json
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

from llmhpc.config import Resources
from llmhpc.processes import joined
from llmhpc.train import backend

# isort: split
from nanotron.parallel.tensor_parallel.nn import TensorParallelLinearMode

from llmhpc.models import Split
from llmhpc.models.llama.loss import Loss
from llmhpc.train.waits import Communication

PROCESSES, VOCABULARY, SEQUENCE, BATCH = 2, 96, 12, 3
Z_LOSS = 0.1


def of_torch(logits, labels, weights, z_loss):
    """Cross-entropy, z-loss, and the gradient of their sum."""
    logits = logits.clone().requires_grad_()
    log_z = logits.logsumexp(-1)
    picked = logits.gather(-1, labels.T.unsqueeze(-1)).squeeze(-1)
    cross_entropy = ((log_z - picked) * weights.T).mean()
    z = z_loss * (log_z**2 * weights.T).mean()
    (gradient,) = torch.autograd.grad(cross_entropy + z, logits)
    return {"cross_entropy": cross_entropy, "z_loss": z, "gradient": gradient}


def of_ours(logits, labels, weights, z_loss, split):
    """The same by this process's part of the vocabulary, gathered."""
    own = logits.chunk(PROCESSES, dim=-1)[dist.get_rank()].clone().requires_grad_()
    losses = Loss(split, z_loss)(own, labels, weights)
    losses["loss"].backward()
    parts = [torch.empty_like(own.grad) for _ in range(PROCESSES)]
    dist.all_gather(parts, own.grad)
    return {**losses, "gradient": torch.cat(parts, dim=-1)}


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn((SEQUENCE, BATCH, VOCABULARY), generator=generator) + 3
    labels = torch.randint(VOCABULARY, (BATCH, SEQUENCE), generator=generator)
    weights = torch.rand((BATCH, SEQUENCE), generator=generator)
    weights[0, :4] = 0.0  # padding
    with tempfile.TemporaryDirectory() as folder, joined(PROCESSES, Resources(), Path(folder)):
        backend.use(Communication(torch.device("cpu")), gloo=True)
        context = backend.Groups(replicas=1, cp=1, tp=PROCESSES, pp=1)
        split = Split(context, TensorParallelLinearMode.ALL_REDUCE, None)
        found = {}
        for z_loss in (0.0, Z_LOSS):
            theirs = of_torch(logits, labels, weights, z_loss)
            ours = of_ours(logits, labels, weights, z_loss, split)
            found[z_loss] = {
                name: (ours[name] - value).abs().max().item() for name, value in theirs.items()
            }
            found[z_loss]["largest"] = theirs["gradient"].abs().max().item()
        if dist.get_rank() == 0:
            print("differences", json.dumps(found))


if __name__ == "__main__":
    main()
