"""What changes with width and depth: the spread of new weights, the learning rates, and factors in the network.

Two rules for width. Standard: every matrix is drawn with ``init_std`` and has the schedule's learning rate. muP
(Yang et al. 2022, arXiv:2203.03466, table 8, whose multipliers allow tied embeddings): settings are those of a network of
``mup_base_width``; with m = hidden_size / mup_base_width, for Adam,

    parameters           spread              learning rate   factor
    matrices of layers   init_std / sqrt(m)  lr / m
    embedding, output    init_std            lr              logits / m
    norms                1                   lr

and scores are q k / head_dim instead of q k / sqrt(head_dim) (definition 4.1). Cerebras-GPT (arXiv:2304.03208, table 14) and
MiniCPM (arXiv:2404.06395) train so; MiniCPM, whose head size is fixed, leaves the scores as they are
(attention_multiplier). Inner size and heads are to grow with the width.

Two rules for depth. Matrices that write to the residual stream are drawn with a spread over sqrt(2 layers) (GPT-2), or what
they write is multiplied, by scale_depth / sqrt(layers) (MiniCPM) or residual_multiplier, and their spread is that of others.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from llmhpc.models.llama import Config

LAYERS, RESIDUAL_WRITERS = "layers.", ("attention_out.weight", "down.weight")


class Multipliers(NamedTuple):
    """Factors in the forward pass; each is 1 in plain llama."""

    embedding: float  # of what the embedding gives
    residual: float  # of what attention and feed-forward add to the residual stream
    query: float  # of queries, whose products with keys are then divided by sqrt(head_dim)
    logits: float


PLAIN = Multipliers(1.0, 1.0, 1.0, 1.0)


def multipliers(model: "Config") -> Multipliers:
    """The factors of a network."""
    residual = model.residual_multiplier
    if model.scale_depth:
        residual = model.scale_depth / math.sqrt(model.layers)
    query = 1.0
    if model.attention_multiplier:
        query = model.attention_multiplier * math.sqrt(model.head_dim)
    elif model.mup_base_width:
        query = 1 / math.sqrt(model.head_dim)
    logits = model.logit_multiplier / _times_as_wide(model)
    return Multipliers(model.embedding_multiplier, residual, query, logits)


def init_std(model: "Config", name: str) -> float:
    """Standard deviation that a new matrix is drawn with.

    ``init_std`` 0 is sqrt(2 / (5 width)) (Nguyen and Salazar 2019, arXiv:1910.05895), with muP of the base width.
    """
    std = model.init_std or math.sqrt(0.4 / (model.mup_base_width or model.hidden_size))
    if not name.startswith(LAYERS):
        return std
    if name.endswith(RESIDUAL_WRITERS) and multipliers(model).residual == 1:
        std /= math.sqrt(2 * model.layers)
    return std / math.sqrt(_times_as_wide(model))


def lr_scale(model: "Config", name: str, dims: int) -> float:
    """What the learning rate of a parameter with so many axes is multiplied by."""
    in_layer = name.startswith(LAYERS) and dims > 1
    return 1 / _times_as_wide(model) if in_layer else 1.0


def times(x: "torch.Tensor", factor: float) -> "torch.Tensor":
    """The product; ``x`` itself where the factor is 1, so that a plain network takes no memory for it."""
    return x if factor == 1 else x * factor


def _times_as_wide(model: "Config") -> float:
    return model.hidden_size / model.mup_base_width if model.mup_base_width else 1.0
