"""Llama as Hugging Face transformers names it: config.json and tensor names. Only renaming and splitting.

With multipliers it is transformers' Granite, which is llama with four of them, under the same tensor names.
"""

import math
from typing import Any

from llmhpc.errors import ConfigError
from llmhpc.models import Rows
from llmhpc.models.llama import Config, RopeScaling
from llmhpc.models.llama.scaling import PLAIN, init_std, multipliers

MODEL_TYPES = LLAMA, GRANITE = "llama", "granite"
FIXED = {  # what the network is, with the value that transformers takes where nothing is said
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}

SCALING = {  # fields of rope_scaling with rope_type llama3
    "factor": "factor",
    "low_freq_factor": "low_frequency_factor",
    "high_freq_factor": "high_frequency_factor",
    "original_max_position_embeddings": "original_positions",
}


def config(model: Config, *, sequence_length: int, dtype: str) -> dict[str, Any]:
    """The content of config.json, less the special tokens."""
    scaling: dict[str, Any] = {"rope_type": "default"}
    if model.rope_scaling.factor != 1:
        named = {there: getattr(model.rope_scaling, own) for there, own in SCALING.items()}
        scaling = {"rope_type": "llama3"} | named
    return _kind(model) | {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": dtype,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "hidden_size": model.hidden_size,
        "initializer_range": init_std(model, "embedding"),
        "intermediate_size": model.intermediate_size,
        "max_position_embeddings": sequence_length,
        "mlp_bias": False,
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.kv_heads,
        "rms_norm_eps": model.norm_eps,
        "rope_parameters": {"rope_theta": model.rope_theta, **scaling},
        "rope_theta": model.rope_theta,  # transformers before 5, as the next
        "rope_scaling": scaling if model.rope_scaling.factor != 1 else None,
        "tie_word_embeddings": model.tied_embeddings,
        "use_cache": True,
        "vocab_size": model.vocab_size,
    }


def _kind(model: Config) -> dict[str, Any]:
    """The class, and the factors that plain llama does not have."""
    factors = multipliers(model)
    if factors == PLAIN:
        return {"architectures": ["LlamaForCausalLM"], "model_type": LLAMA}
    return {
        "architectures": ["GraniteForCausalLM"],
        "model_type": GRANITE,
        "attention_multiplier": factors.query / math.sqrt(model.head_dim),
        "embedding_multiplier": factors.embedding,
        "logits_scaling": 1 / factors.logits,
        "residual_multiplier": factors.residual,
    }


def settings(config: dict[str, Any]) -> Config:
    """The settings that the content of a config.json says; ConfigError where it is not this network.

    Multipliers are said one by one, whatever width or depth they come from.
    """
    model_type = config.get("model_type", LLAMA)
    if model_type not in MODEL_TYPES:
        raise ConfigError(f"model_type={model_type}: {' or '.join(MODEL_TYPES)}, there is no other")
    for key, value in FIXED.items():
        if (there := config.get(key, value)) != value:
            raise ConfigError(f"{key}={there}: {value}, llama has no other")
    heads, rope = config["num_attention_heads"], _rope(config)
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise ConfigError(f"rope_type={kind}: default or llama3, llama has no other")
    scaling = {own: rope[there] for there, own in SCALING.items() if kind == "llama3"}
    model = Config(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        intermediate_size=config["intermediate_size"],
        tied_embeddings=config.get("tie_word_embeddings", False),
        rope_theta=float(rope.get("rope_theta", 10000.0)),
        rope_scaling=RopeScaling(**scaling),
        norm_eps=config.get("rms_norm_eps", 1e-6),
        init_std=config.get("initializer_range", 0.02),
        **(_multipliers(config) if model_type == GRANITE else {}),
    )
    if (width := config.get("head_dim") or model.head_dim) != model.head_dim:
        raise ConfigError(f"head_dim={width}: {model.head_dim}, hidden_size over heads")
    return model


def _multipliers(config: dict[str, Any]) -> dict[str, Any]:
    """Of a Granite model; transformers takes 1 where nothing is said."""
    names = ("embedding_multiplier", "residual_multiplier", "attention_multiplier")
    found = {name: float(config.get(name, 1.0)) for name in names}
    return found | {"logit_multiplier": 1 / config.get("logits_scaling", 1.0)}


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """What is said of rotary positions; before transformers 5 in other places and with another key."""
    said = config.get("rope_parameters") or config.get("rope_scaling") or {}
    said = {"rope_type": said["type"]} | said if "type" in said else said
    return {"rope_theta": config["rope_theta"]} | said if "rope_theta" in config else said


def rows(model: Config) -> list[Rows]:
    """Every tensor of LlamaForCausalLM, and which rows of which of ours it is."""
    query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
    width, inner = model.hidden_size, model.intermediate_size
    found = [Rows("model.embed_tokens.weight", "embedding.table.weight", 0, model.vocab_size)]
    for number in range(model.layers):
        here, there = f"layers.{number}", f"model.layers.{number}"
        qkv, gate_up = f"{here}.qkv.weight", f"{here}.gate_up.weight"
        attention, mlp = f"{there}.self_attn", f"{there}.mlp"
        found += [
            Rows(f"{there}.input_layernorm.weight", f"{here}.attention_norm.weight", 0, width),
            Rows(f"{attention}.q_proj.weight", qkv, 0, query),
            Rows(f"{attention}.k_proj.weight", qkv, query, query + key),
            Rows(f"{attention}.v_proj.weight", qkv, query + key, query + 2 * key),
            Rows(f"{attention}.o_proj.weight", f"{here}.attention_out.weight", 0, width),
            Rows(
                f"{there}.post_attention_layernorm.weight",
                f"{here}.feed_forward_norm.weight",
                0,
                width,
            ),
            Rows(f"{mlp}.gate_proj.weight", gate_up, 0, inner),
            Rows(f"{mlp}.up_proj.weight", gate_up, inner, 2 * inner),
            Rows(f"{mlp}.down_proj.weight", f"{here}.down.weight", 0, width),
        ]
    found.append(Rows("model.norm.weight", "head.norm.weight", 0, width))
    if not model.tied_embeddings:
        found.append(Rows("lm_head.weight", "head.output.weight", 0, model.vocab_size))
    return found
