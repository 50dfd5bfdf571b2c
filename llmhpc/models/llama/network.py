"""The llama network on nanotron's tensor- and pipeline-parallel layers.

Shapes: B micro-batch, S sequence, H hidden, D head size, N query heads and K key-value heads of this process, V
vocabulary of this process. Activations are sequence-first (S, B, H), because nanotron's sequence parallelism cuts the
first axis: under REDUCE_SCATTER the S of tensors between layers is S / tp. With a ring S is this process's part.
"""

import hashlib
from functools import cache

import torch
import torch.nn.functional as F
from nanotron.models import NanotronModel
from nanotron.parallel.pipeline_parallel.block import PipelineBlock
from nanotron.parallel.pipeline_parallel.tensor_pointer import TensorPointer
from nanotron.parallel.tensor_parallel.nn import (
    TensorParallelColumnLinear,
    TensorParallelEmbedding,
    TensorParallelRowLinear,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

from llmhpc.kernels.documents import Documents
from llmhpc.kernels.ring import choose
from llmhpc.models import Split
from llmhpc.models.llama import Config, Rope, scaling
from llmhpc.models.llama.loss import Loss
from llmhpc.models.llama.rope import frequencies


@cache
def rotary_tables(
    length: int, head_dim: int, rope: Rope, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of position times frequency, each (S, 1, 1, D/2)."""
    positions = torch.arange(length, device=device, dtype=torch.float32)
    angles = torch.outer(positions, frequencies(rope, head_dim, device))[:, None, None, :]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(
    x_SBND: torch.Tensor,
    rope: Rope,
    positions_BS: torch.Tensor | None = None,
    length: int | None = None,
) -> torch.Tensor:
    """Rotary positions in Hugging Face's layout: component i turns with component i + D/2.

    ``positions_BS``: int64, below ``length`` (S); not given, a token's position is its place in the sequence.
    """
    length = length or x_SBND.shape[0]
    cos, sin = rotary_tables(length, x_SBND.shape[-1], rope, x_SBND.device, x_SBND.dtype)
    if positions_BS is not None:
        cos, sin = (table[positions_BS.transpose(0, 1)].squeeze(2) for table in (cos, sin))
    left, right = x_SBND.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


class Norm(nn.Module):
    """RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Embedding(nn.Module):
    """Token ids (B, S) to vectors (S, B, H)."""

    def __init__(self, model: Config, split: Split) -> None:
        super().__init__()
        self.table = TensorParallelEmbedding(
            model.vocab_size, model.hidden_size, pg=split.context.tp_pg, mode=split.tp_mode
        )
        self.multiplier = scaling.multipliers(model).embedding

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"hidden": scaling.times(self.table(input_ids.transpose(0, 1)), self.multiplier)}


class Layer(nn.Module):
    """Attention and SwiGLU feed-forward (Shazeer 2020, arXiv:2002.05202), each behind a norm and a residual."""

    def __init__(self, model: Config, split: Split) -> None:
        super().__init__()
        tp = split.context.tp_pg.size()
        cut = {"pg": split.context.tp_pg, "mode": split.tp_mode, "bias": False}
        width, inner = model.hidden_size, model.intermediate_size
        query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
        self.heads, self.kv_heads = model.heads // tp, model.kv_heads // tp
        self.head_dim, self.rope, self.recompute = (
            model.head_dim,
            model.rope(),
            split.recompute,
        )
        self.ring = split.ring
        self.multipliers = scaling.multipliers(model)
        self.attention_norm = Norm(width, model.norm_eps)
        self.qkv = TensorParallelColumnLinear(
            width, query + 2 * key, contiguous_chunks=(query, key, key), **cut
        )
        self.attention_out = TensorParallelRowLinear(query, width, **cut)
        self.feed_forward_norm = Norm(width, model.norm_eps)
        self.gate_up = TensorParallelColumnLinear(
            width, 2 * inner, contiguous_chunks=(inner, inner), **cut
        )
        self.down = TensorParallelRowLinear(inner, width, **cut)
        self.run = torch.compile(self.compute) if split.compile else self.compute

    def forward(
        self, hidden: torch.Tensor, documents: Documents | None = None
    ) -> dict[str, torch.Tensor]:
        if self.recompute and torch.is_grad_enabled():
            return {"hidden": checkpoint(self.run, hidden, documents, use_reentrant=False)}
        return {"hidden": self.run(hidden, documents)}

    def compute(self, hidden: torch.Tensor, documents: Documents | None) -> torch.Tensor:
        """(S, B, H) to (S, B, H)."""
        attended = self.attend(self.attention_norm(hidden), documents)
        part = self.multipliers.residual
        hidden = torch.add(hidden, self.attention_out(attended), alpha=part)
        gate, up = self.gate_up(self.feed_forward_norm(hidden)).chunk(2, dim=-1)
        return torch.add(hidden, self.down(F.silu(gate) * up), alpha=part)

    def attend(self, x: torch.Tensor, documents: Documents | None) -> torch.Tensor:
        """(S, B, H) to (S, B, N D)."""
        heads_SBND = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        qk, v = heads_SBND.split([self.heads + self.kv_heads, self.kv_heads], dim=2)
        tokens, length = qk.shape[0], qk.shape[0] * (self.ring.size if self.ring else 1)
        positions_BS = None
        if documents is not None:
            positions_BS = documents.positions_BS
        elif self.ring is not None:
            positions_BS = self.ring.places(tokens, device=x.device).unsqueeze(0)
        turned = rotate(qk, self.rope, positions_BS, length)
        q, k = turned.split([self.heads, self.kv_heads], dim=2)
        q = scaling.times(q, self.multipliers.query)
        q, k, v = (part.transpose(0, 1) for part in (q, k, v))
        taken = choose(self.ring, x.device.type, x.dtype, self.head_dim)
        return taken.attend(q, k, v, documents).transpose(0, 1).flatten(2)


class Head(nn.Module):
    """Last norm and the output layer: (S, B, H) to logits (S, B, V) of this process's part of the vocabulary."""

    def __init__(self, model: Config, split: Split) -> None:
        super().__init__()
        self.norm = Norm(model.hidden_size, model.norm_eps)
        self.output = TensorParallelColumnLinear(
            model.hidden_size,
            model.vocab_size,
            pg=split.context.tp_pg,
            mode=split.tp_mode,
            bias=False,
        )
        self.multiplier = scaling.multipliers(model).logits

    def forward(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.output(scaling.times(self.norm(hidden), self.multiplier))}


class Llama(NanotronModel):
    """The whole network; each process builds the blocks of its pipeline stage."""

    def __init__(self, model: Config, split: Split, z_loss: float) -> None:
        super().__init__()
        self.config, self.parallel_context, self.p2p = model, split.context, split.p2p
        self.ring = split.ring
        both = {"model": model, "split": split}
        self.embedding = self._block(Embedding, both, {"input_ids"}, {"hidden"})
        self.layers = nn.ModuleList(
            self._block(Layer, both, {"hidden", "documents"}, {"hidden"})
            for _ in range(model.layers)
        )
        self.head = self._block(Head, both, {"hidden"}, {"logits"})
        self.loss = self._block(
            Loss,
            {"split": split, "z_loss": z_loss},
            {"logits", "label_ids", "label_weights"},
            {"loss", "cross_entropy", "z_loss", "row_losses"},
        )

    def _block(
        self, kind: type, kwargs: dict, inputs: set[str], outputs: set[str]
    ) -> PipelineBlock:
        return PipelineBlock(
            p2p=self.p2p,
            module_builder=kind,
            module_kwargs=kwargs,
            module_input_keys=inputs,
            module_output_keys=outputs,
        )

    def forward(
        self,
        input_ids: torch.Tensor | TensorPointer,
        label_ids: torch.Tensor | TensorPointer,
        label_weights: torch.Tensor | TensorPointer,
        documents: Documents | None = None,
    ) -> dict[str, torch.Tensor | TensorPointer]:
        """Token ids, their successors and the weights of these, each (B, S) or a pointer to the stage that has them.

        ``documents`` of the same micro-batch are there on every stage: nothing of them is sent.
        """
        here = self.parallel_context.pp_pg.rank()
        hidden = self.embedding(input_ids=input_ids)["hidden"]
        for layer in self.layers:
            own = documents if layer.rank == here else TensorPointer(layer.rank)
            hidden = layer(hidden=hidden, documents=own)["hidden"]
        logits = self.head(hidden=hidden)["logits"]
        labels = {"label_ids": label_ids, "label_weights": label_weights}
        return self.loss(logits=logits, **labels)

    @torch.no_grad()
    def init_model_randomly(self, config: int) -> None:
        """Normal weights from the run's seed (``config``) and each parameter's name.

        Whole tensors are drawn and then cut, so that every layout starts from the same network.
        """
        for name, parameter in self.named_parameters():
            name = parameter.get_tied_info().name if parameter.is_tied else name
            if parameter.dim() == 1:  # norms
                parameter.fill_(1.0)
            elif parameter.is_sharded:
                info = parameter.get_sharded_info()
                whole = self._draw(name, info.unsharded_shape, seed=config)
                for pair in info.local_global_slices_pairs:
                    parameter[pair.local_slices] = whole[pair.global_slices].to(parameter)
            else:
                parameter.copy_(self._draw(name, parameter.shape, seed=config))

    def _draw(self, name: str, shape: tuple[int, ...], *, seed: int) -> torch.Tensor:
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        std = scaling.init_std(self.config, name)
        return torch.randn([int(n) for n in shape], generator=generator) * std

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay is for a parameter: not for norms, and not for the embedding, of which a step reads
        only some rows."""
        return parameter.dim() > 1 and not name.startswith("embedding.")

    def lr_scale(self, name: str, parameter: nn.Parameter) -> float:
        """What the learning rate of a parameter is multiplied by."""
        return scaling.lr_scale(self.config, name, parameter.dim())

    def choices(self) -> dict[str, str]:
        """Which kernels are used here, and why."""
        parameter = next(self.parameters())
        taken = choose(self.ring, parameter.device.type, parameter.dtype, self.config.head_dim)
        return {"attention": f"{taken.name}: {taken.reason}"}

    def get_embeddings_lm_head_tied_names(self) -> list[str]:
        """What nanotron is to tie."""
        if not self.config.tied_embeddings:
            return []
        return ["embedding.pp_block.table.weight", "head.pp_block.output.weight"]

    def get_block_compute_costs(self) -> dict[type, int]:
        """What nanotron balances stages by."""
        layer, head = self.config.block_costs(self.parallel_context.pp_pg.size())
        return {Layer: layer, Head: head}
