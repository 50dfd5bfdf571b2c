"""Llama as llama.cpp names it in a GGUF file. Rotary positions turn neighbours there: rows of queries and keys are reordered.

After LlamaModel of llama.cpp's convert_hf_to_gguf.py.
"""

import re
from typing import TYPE_CHECKING, Any

from llmhpc.errors import ConfigError
from llmhpc.models.llama import Config
from llmhpc.models.llama.scaling import PLAIN, multipliers

if TYPE_CHECKING:
    import torch

ARCHITECTURE = "llama"
OF_A_LAYER = {  # a layer's tensors: Hugging Face's name -> llama.cpp's
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OTHERS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def name(theirs: str) -> str:
    """llama.cpp's name of a tensor of LlamaForCausalLM."""
    stem = theirs.removesuffix(".weight")
    if found := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem):
        return f"blk.{found.group(1)}.{OF_A_LAYER[found.group(2)]}.weight"
    return f"{OTHERS[stem]}.weight"


def reordered(model: Config, theirs: str, numbers: "torch.Tensor") -> "torch.Tensor":
    """A tensor's numbers in the order that llama.cpp wants."""
    heads = {"q_proj": model.heads, "k_proj": model.kv_heads}.get(theirs.split(".")[-2])
    if heads is None:
        return numbers
    return numbers.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def slowdown(model: Config) -> "torch.Tensor | None":
    """The tensor rope_freqs.weight: by what llama.cpp divides each frequency; None where none is slowed down."""
    import torch

    from llmhpc.models.llama.rope import frequencies

    scaled = model.rope()
    if scaled.factor == 1:
        return None
    plain = scaled._replace(factor=1.0)
    device = torch.device("cpu")
    return frequencies(plain, model.head_dim, device) / frequencies(scaled, model.head_dim, device)


def metadata(model: Config) -> dict[str, Any]:
    """What llama.cpp has to know of the shape, less the length of contexts. Raises ConfigError if there are multipliers."""
    if (factors := multipliers(model)) != PLAIN:
        raise ConfigError(f"{factors}: all 1, llama.cpp's {ARCHITECTURE} has none")
    return {
        "block_count": model.layers,
        "embedding_length": model.hidden_size,
        "feed_forward_length": model.intermediate_size,
        "attention.head_count": model.heads,
        "attention.head_count_kv": model.kv_heads,
        "attention.layer_norm_rms_epsilon": model.norm_eps,
        "rope.dimension_count": model.head_dim,
        "rope.freq_base": model.rope_theta,
        "vocab_size": model.vocab_size,
    }
