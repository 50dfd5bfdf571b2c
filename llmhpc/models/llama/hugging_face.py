"""Llama as Hugging Face transformers names it: config.json and tensor names. Only renaming and splitting.

With multipliers it is transformers' Granite, which is llama with four of them, under the same tensor names.
"""

import math
from typing import TYPE_CHECKING, Any

from llmhpc.models.llama import Config, scaling

if TYPE_CHECKING:
    import torch


def config(model: Config, *, sequence_length: int, dtype: str) -> dict[str, Any]:
    """The content of config.json, less the special tokens."""
    return _kind(model) | {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": dtype,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "hidden_size": model.hidden_size,
        "initializer_range": scaling.init_std(model, "embedding"),
        "intermediate_size": model.intermediate_size,
        "max_position_embeddings": sequence_length,
        "mlp_bias": False,
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.kv_heads,
        "rms_norm_eps": model.norm_eps,
        "rope_parameters": {"rope_theta": model.rope_theta, "rope_type": "default"},
        "rope_theta": model.rope_theta,  # transformers before 5
        "tie_word_embeddings": model.tied_embeddings,
        "use_cache": True,
        "vocab_size": model.vocab_size,
    }


def _kind(model: Config) -> dict[str, Any]:
    """The class, and the factors that plain llama does not have."""
    factors = scaling.multipliers(model)
    if factors == scaling.PLAIN:
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    return {
        "architectures": ["GraniteForCausalLM"],
        "model_type": "granite",
        "attention_multiplier": factors.query / math.sqrt(model.head_dim),
        "embedding_multiplier": factors.embedding,
        "logits_scaling": 1 / factors.logits,
        "residual_multiplier": factors.residual,
    }


def tensors(model: Config, ours: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Our whole tensors under the names of LlamaForCausalLM; fused ones are split into copies."""
    query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
    theirs = {
        "model.embed_tokens.weight": ours["embedding.table.weight"],
        "model.norm.weight": ours["head.norm.weight"],
    }
    if not model.tied_embeddings:
        theirs["lm_head.weight"] = ours["head.output.weight"]
    for number in range(model.layers):
        here, there = f"layers.{number}", f"model.layers.{number}"
        q, k, v = ours[f"{here}.qkv.weight"].split([query, key, key])
        gate, up = ours[f"{here}.gate_up.weight"].chunk(2)
        theirs |= {
            f"{there}.input_layernorm.weight": ours[f"{here}.attention_norm.weight"],
            f"{there}.self_attn.q_proj.weight": q.clone(),
            f"{there}.self_attn.k_proj.weight": k.clone(),
            f"{there}.self_attn.v_proj.weight": v.clone(),
            f"{there}.self_attn.o_proj.weight": ours[f"{here}.attention_out.weight"],
            f"{there}.post_attention_layernorm.weight": ours[f"{here}.feed_forward_norm.weight"],
            f"{there}.mlp.gate_proj.weight": gate.clone(),
            f"{there}.mlp.up_proj.weight": up.clone(),
            f"{there}.mlp.down_proj.weight": ours[f"{here}.down.weight"],
        }
    return theirs
