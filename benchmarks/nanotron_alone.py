"""nanotron 0.4's own trainer, llama and optimizer on one CPU: prints the CPU seconds of each step as JSON.

    python -m benchmarks.nanotron_alone SETTINGS.json

Nothing of it is changed but what it needs to run without CUDA and flash-attn at all: modules that stand for flash-attn
(attention by torch, as in ours) and the word cuda, which is taken for cpu.
"""

import json
import os
import sys
import tempfile
import time
import types
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist
import torch.nn.functional as F
import yaml
from torch.overrides import TorchFunctionMode

ENVIRONMENT = {
    "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "CUDA_DEVICE_MAX_CONNECTIONS": "1", "WANDB_MODE": "disabled",
}  # fmt: skip


class CudaIsCpu(TorchFunctionMode):
    """Everything that is to be on a GPU is on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def on_cpu(value: Any) -> Any:
            named = isinstance(value, str | torch.device) and str(value).startswith("cuda")
            return "cpu" if named else value

        kwargs = {name: on_cpu(value) for name, value in (kwargs or {}).items()}
        return func(*map(on_cpu, args), **kwargs)


def attention(q: Any, k: Any, v: Any, cu_seqlens_q: Any, *_: Any, causal: bool, **__: Any) -> Any:
    """flash_attn_varlen_func for sequences of one length."""
    sequences = cu_seqlens_q.numel() - 1
    heads = (x.view(sequences, -1, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(*heads, is_causal=causal, enable_gqa=True)
    return out.transpose(1, 2).reshape(q.shape)


class Rotary(torch.nn.Module):
    """flash_attn's RotaryEmbedding from position 0 on."""

    def __init__(self, dim: int, base: float = 10000.0, **_: Any) -> None:
        super().__init__()
        self.frequencies = 1 / base ** (torch.arange(0, dim, 2).float() / dim)

    def forward(self, q: Any, kv: Any, **_: Any) -> Any:
        angles = torch.outer(torch.arange(q.shape[1]).float(), self.frequencies)[None, :, None]
        cos, sin = angles.cos(), angles.sin()

        def turned(x: Any) -> Any:
            left, right = x.chunk(2, -1)
            return torch.cat([left * cos - right * sin, left * sin + right * cos], -1)

        key, value = kv.unbind(2)
        return turned(q), torch.stack([turned(key), value], 2)


def stand_ins() -> None:
    """What nanotron's modules import of flash_attn, and the calls of torch.cuda that it makes."""
    norm = {"layer_norm_fn": lambda x, w, b, eps, **_: F.rms_norm(x, w.shape, w, eps)}
    members: dict[str, dict[str, Any]] = {
        "": {}, ".bert_padding": {}, ".layers": {}, ".ops": {}, ".ops.triton": {}, ".ops.triton.layer_norm": norm,
        ".flash_attn_interface": {"flash_attn_varlen_func": attention, "flash_attn_with_kvcache": None},
        ".layers.rotary": {"RotaryEmbedding": Rotary},
    }  # fmt: skip
    for suffix, attributes in members.items():
        module = types.ModuleType(f"flash_attn{suffix}")
        module.__path__ = []  # type: ignore[attr-defined]
        module.__spec__ = types.SimpleNamespace(name=module.__name__)  # type: ignore[assignment]
        vars(module).update(attributes)
        sys.modules[module.__name__] = module
    vars(sys.modules["flash_attn"])["bert_padding"] = sys.modules["flash_attn.bert_padding"]
    for name in ("synchronize", "empty_cache", "set_device", "device", "reset_peak_memory_stats"):
        setattr(torch.cuda, name, lambda *_, **__: None)
    for name in ("max_memory_allocated", "max_memory_reserved", "memory_allocated"):
        setattr(torch.cuda, name, lambda *_, **__: 0)


def config(settings: dict[str, Any], folder: Path) -> Path:
    """nanotron's configuration of the same size and batch."""
    model = settings["model"] | {
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None, "hidden_act": "silu", "initializer_range": 0.02,
        "is_llama_config": True, "rms_norm_eps": 1e-5, "max_position_embeddings": settings["length"],
        "rope_scaling": None, "pretraining_tp": 1, "use_cache": True,
    }  # fmt: skip
    rate = {
        "learning_rate": 1e-3, "lr_warmup_steps": 1, "lr_warmup_style": "linear", "lr_decay_style": "cosine",
        "lr_decay_steps": 100, "min_decay_lr": 1e-4,
    }  # fmt: skip
    record = {
        "general": {"project": "p", "run": "r", "seed": 0, "ignore_sanity_checks": True},
        "parallelism": {"dp": 1, "pp": 1, "tp": 1, "pp_engine": "1f1b", "tp_mode": "ALL_REDUCE",
                        "tp_linear_async_communication": False},
        "model": {"model_config": model, "init_method": {"std": 0.02}, "dtype": "float32",
                  "make_vocab_size_divisible_by": 1, "ddp_bucket_cap_mb": 25},
        "tokenizer": {"tokenizer_name_or_path": "none"},
        "checkpoints": {"checkpoints_path": str(folder), "checkpoint_interval": 10**9,
                        "checkpoints_path_is_shared_file_system": True},
        "logging": {"log_level": "error", "log_level_replica": "error", "iteration_step_info_interval": 1},
        "tokens": {"sequence_length": settings["length"], "train_steps": settings["steps"],
                   "micro_batch_size": settings["micro_batch"],
                   "batch_accumulation_per_replica": settings["batch"] // settings["micro_batch"]},
        "optimizer": {"zero_stage": 0, "weight_decay": 0.1, "clip_grad": 1.0, "adam_eps": 1e-8, "adam_beta1": 0.9,
                      "adam_beta2": 0.95, "torch_adam_is_fused": True, "accumulate_grad_in_fp32": False,
                      "learning_rate_scheduler": rate},
        "data": {"dataset": None, "seed": 1, "num_loading_workers": 0},
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(record))
    return path


def main() -> None:
    """Train and time."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    os.environ |= ENVIRONMENT
    torch.set_num_threads(1)
    from llmhpc.train import backend  # nanotron.config does not load by itself

    stand_ins()
    import nanotron.distributed as nanotron_dist
    from nanotron.models import llama
    from nanotron.trainer import DistributedTrainer

    def connect() -> bool:
        torch_dist.init_process_group("gloo", store=torch_dist.HashStore(), rank=0, world_size=1)
        return True

    nanotron_dist.initialize_torch_distributed = connect  # type: ignore[assignment]
    vars(nanotron_dist.dist)["initialize_torch_distributed"] = connect
    from llmhpc.train.waits import Communication

    backend.use(Communication(torch.device("cpu")), gloo=True)

    def rotary_tables(self: Any) -> None:
        if not self._initialized_buffer:
            powers = torch.arange(0, self.dim, 2).float() / self.dim
            angles = torch.outer(torch.arange(self.end), 1 / self.theta**powers)
            table = torch.view_as_real(torch.polar(torch.ones_like(angles), angles))
            self.register_buffer("freqs_cis", table, persistent=False)
            self._initialized_buffer = True

    llama.RotaryEmbedding.init_rotary_embeddings = rotary_tables
    ends = []

    class Trainer(DistributedTrainer):
        def train_step_logs(self, outputs: Any, loss_avg: Any) -> None:
            float(loss_avg)
            ends.append(time.process_time())

    generator = torch.Generator().manual_seed(0)
    shape = (settings["micro_batch"], settings["length"] + 1)

    def batches() -> Any:
        mask = torch.ones(shape[0], shape[1] - 1, dtype=torch.bool)
        while True:
            row = torch.randint(0, settings["model"]["vocab_size"], shape, generator=generator)
            yield {"input_ids": row[:, :-1].contiguous(), "input_mask": mask,
                   "label_ids": row[:, 1:].contiguous(), "label_mask": mask}  # fmt: skip

    with tempfile.TemporaryDirectory() as folder, CudaIsCpu():
        Trainer(str(config(settings, Path(folder)))).train(batches())
    print("seconds", json.dumps([b - a for a, b in pairwise(ends)]))


if __name__ == "__main__":
    main()
