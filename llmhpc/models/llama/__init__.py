"""Llama: rotary positions, grouped-query attention, RMSNorm, SwiGLU, tied embeddings or not."""

from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.models import Activations, Model, Split, StageParts, stage_of_blocks
from llmhpc.models.llama.scaling import multipliers

if TYPE_CHECKING:
    from llmhpc.models.llama.network import Llama


class Rope(NamedTuple):
    """What decides how fast positions turn: ``Config.rope_theta`` and ``RopeScaling``."""

    theta: float
    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_positions: int


@dataclass(kw_only=True, slots=True)
class RopeScaling:
    """Slower rotary positions for a context ``factor`` times as long, as in Llama 3.1 (arXiv:2407.21783)."""

    factor: float = 1.0  # 1: none
    # turns within the original context: below low a pair of components is slowed down, above high it stays
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_positions: int = 8192

    def __post_init__(self) -> None:
        at_least(self, "factor", 1)
        at_least(self, "original_positions", 1)
        if self.high_frequency_factor <= self.low_frequency_factor:
            raise ConfigError(
                f"high_frequency_factor={self.high_frequency_factor}: above"
                f" low_frequency_factor={self.low_frequency_factor}"
            )


@dataclass(kw_only=True, slots=True)
class Config(Model):
    """Shape of the network; field names follow the paper (Touvron et al. 2023, arXiv:2302.13971)."""

    kind: str = "llama"
    vocab_size: int = 4096
    hidden_size: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2  # fewer than heads: grouped-query attention (arXiv:2305.13245)
    intermediate_size: int = 704
    tied_embeddings: bool = True
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    norm_eps: float = 1e-5
    # what follows from these for each parameter is in scaling.py
    init_std: float = 0.02  # of matrices; 0: by the width
    # the hidden_size that lr and init_std are meant for (muP, arXiv:2203.03466); 0: this one
    mup_base_width: int = 0
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    scale_depth: float = 0.0  # residual_multiplier is this over sqrt(layers); 0: as set
    attention_multiplier: float = 0.0  # of q k; 0: 1 / sqrt(head_dim), with muP 1 / head_dim
    logit_multiplier: float = 1.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "layers", "heads", "kv_heads"):
            at_least(self, name, 1)
        at_least(self, "intermediate_size", 1)
        if self.hidden_size % (2 * self.heads):
            raise ConfigError(
                f"hidden_size={self.hidden_size}: a multiple of 2 x heads={self.heads}, "
                "rotary positions need an even head size"
            )
        if self.heads % self.kv_heads:
            raise ConfigError(f"kv_heads={self.kv_heads}: a divisor of heads={self.heads}")
        for name in ("init_std", "mup_base_width", "scale_depth", "attention_multiplier"):
            at_least(self, name, 0)
        for name in ("embedding_multiplier", "residual_multiplier", "logit_multiplier"):
            if (value := getattr(self, name)) <= 0:
                raise ConfigError(f"{name}={value:g}: above 0")
        if self.scale_depth and self.residual_multiplier != 1:
            raise ConfigError(
                f"scale_depth={self.scale_depth:g}: 0, with residual_multiplier={self.residual_multiplier:g}"
            )

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.heads

    def rope(self) -> Rope:
        """Rotary positions, as a key of a cache."""
        return Rope(self.rope_theta, *astuple(self.rope_scaling))

    def parameters(self) -> int:
        """Number of trained parameters, each counted once when tied."""
        width = self.hidden_size
        attention = 2 * width * width + 2 * width * self.kv_heads * self.head_dim
        layer = attention + 3 * width * self.intermediate_size + 2 * width
        embeddings = self.vocab_size * width * (1 if self.tied_embeddings else 2)
        return self.layers * layer + embeddings + width

    def flops_per_token(self, sequence_length: int) -> float:
        """Of training: 6 for each weight of a matrix, 12 x layers x width x sequence length for the scores.

        As Chowdhery et al. count (arXiv:2204.02311, appendix B): the mask that halves the scores is left aside.
        """
        layer, _ = self.block_costs(1)
        matrices = self.layers * layer + self.vocab_size * self.hidden_size
        return 6.0 * matrices + 12.0 * self.layers * self.hidden_size * sequence_length

    def block_costs(self, pp: int) -> tuple[int, int]:
        """Multiplications per token of one layer and of the output head, by which stages are balanced.

        nanotron fills each stage until it is beyond its share. A head that outweighs a stage would leave
        the last ones empty, so it counts for one stage's worth of layers at most.
        """
        width = self.hidden_size
        attention = 2 * width * width + 2 * width * self.kv_heads * self.head_dim
        layer = attention + 3 * width * self.intermediate_size
        return layer, min(width * self.vocab_size, self.layers * layer // pp)

    def check_split(self, *, tp: int, pp: int) -> None:
        """Raise ConfigError unless every tensor can be cut ``tp`` ways and every stage gets a layer."""
        for name in ("heads", "kv_heads", "intermediate_size", "vocab_size"):
            if (value := getattr(self, name)) % tp:
                raise ConfigError(f"parallel.tp={tp}: a divisor of model.{name}={value}")
        if self.layers < pp:
            raise ConfigError(f"parallel.pp={pp}: at most model.layers={self.layers}")

    def stages(self, *, tp: int, pp: int) -> list[StageParts]:
        """What a process of each pipeline stage holds. Norms are whole on all processes of a layer.

        Tied embeddings are there twice where the first stage is not the last.
        """
        width, table = self.hidden_size, self.vocab_size * self.hidden_size // tp
        layer_cost, head_cost = self.block_costs(pp)
        layer = layer_cost // tp + 2 * width
        places = stage_of_blocks([layer_cost] * self.layers + [head_cost], pp)
        parts = []
        for stage in range(pp):
            layers, head = places[:-1].count(stage), stage == places[-1]
            tables = (stage == 0) + (head and (stage > 0 or not self.tied_embeddings))
            parameters = layers * layer + tables * table + head * width
            parts.append(StageParts(layers, parameters, head))
        return parts

    def activations(
        self, tokens: int, *, tp: int, sequence_cut: bool, width: int, fused: bool
    ) -> Activations:
        """Counted over network.py as Korthikanti et al. do for GPT (arXiv:2205.05198, sections 4.1 and 4.2).

        Numbers per token that a layer keeps, for hidden size H, query and key widths Q and K, inner size I:
        inputs and outputs of two norms 4 H; queries, keys and values as projected Q + 2 K, and turned Q + K;
        attention's result in both orders of its axes 2 Q; queries once more if they are multiplied Q; gate, up, silu(gate) and their product 4 I. The
        scores are not kept: attention is computed in blocks (arXiv:2205.14135), one float32 per head remains.
        Tensor parallelism cuts Q, K and I; H only with the sequence. A norm that is not ``fused`` also keeps
        its result before the weight and, below float32, its input in float32. The loss keeps the softmax in
        float32; while it is computed the logits are there, too, and their float32 copy.
        """
        query, key = self.hidden_size // tp, self.kv_heads * self.head_dim // tp
        queries = 4 if multipliers(self).query == 1 else 5
        inner, logits = self.intermediate_size // tp, self.vocab_size // tp
        hidden = self.hidden_size // (tp if sequence_cut else 1)
        unfused = 0 if fused else width * hidden + (4 * hidden if width < 4 else 0)
        norm = 2 * width * hidden + unfused
        kept = 2 * norm + width * (queries * query + 3 * key + 4 * inner) + 4 * self.heads // tp
        copy = 4 if width < 4 else 0
        return Activations(
            layer=tokens * kept,
            layer_input=tokens * width * hidden,
            layer_backward=tokens * width * 2 * inner,
            head=tokens * (norm + 4 * logits),
            loss=tokens * (width + copy) * logits,
        )


def build(model: Config, split: Split, *, z_loss: float) -> "Llama":
    """The network, cut as ``split`` says; its blocks are built when nanotron places them.

    ``z_loss``: the weight of the z-loss.
    """
    from llmhpc.models.llama.network import Llama

    return Llama(model, split, z_loss)
