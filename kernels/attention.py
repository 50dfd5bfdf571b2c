"""Causal attention with grouped queries: a reference, SDPA, flash-attn, and a chooser that says why.

Each takes the documents of packed sequences, too: a token then sees only those of its own document.

Shapes: B batch, S and T sequence, N query heads, K key and value heads (N is a multiple of K), D head size.
"""

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F

from llmhpc.kernels.documents import Documents

FLASH_DTYPES = (torch.float16, torch.bfloat16)
FLASH_MAX_HEAD_DIM = 256  # of flash-attn 2

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Documents | None], torch.Tensor]


class Choice(NamedTuple):
    """An implementation and the reason why it was taken."""

    name: str
    reason: str
    attend: Attention


def reference(
    q_BSND: torch.Tensor,
    k_BSKD: torch.Tensor,
    v_BSKD: torch.Tensor,
    documents: Documents | None = None,
) -> torch.Tensor:
    """Causal softmax(q k^T / sqrt(D)) v, shape (B, S, N, D), with the whole score matrix in memory."""
    groups = q_BSND.shape[2] // k_BSKD.shape[2]
    k_BSND, v_BSND = (x.repeat_interleave(groups, dim=2) for x in (k_BSKD, v_BSKD))
    scores_BNST = torch.einsum("bsnd,btnd->bnst", q_BSND, k_BSND) * q_BSND.shape[-1] ** -0.5
    hidden = torch.ones(scores_BNST.shape[-2:], dtype=torch.bool, device=q_BSND.device).triu(1)
    if documents is not None:
        hidden = ~documents.mask_B1ST()
    weights_BNST = scores_BNST.masked_fill(hidden, float("-inf")).softmax(-1)
    return torch.einsum("bnst,btnd->bsnd", weights_BNST, v_BSND)


def sdpa(
    q_BSND: torch.Tensor,
    k_BSKD: torch.Tensor,
    v_BSKD: torch.Tensor,
    documents: Documents | None = None,
) -> torch.Tensor:
    """The same by torch's scaled_dot_product_attention, which picks its own back end."""
    q_BNSD, k_BKSD, v_BKSD = (x.transpose(1, 2) for x in (q_BSND, k_BSKD, v_BSKD))
    grouped = q_BNSD.shape[1] != k_BKSD.shape[1]
    bias_B1ST = None if documents is None else documents.bias_B1ST(q_BSND.dtype)
    out_BNSD = F.scaled_dot_product_attention(
        q_BNSD, k_BKSD, v_BKSD, bias_B1ST, is_causal=documents is None, enable_gqa=grouped
    )
    return out_BNSD.transpose(1, 2)


def flash(
    q_BSND: torch.Tensor,
    k_BSKD: torch.Tensor,
    v_BSKD: torch.Tensor,
    documents: Documents | None = None,
) -> torch.Tensor:
    """The same by the flash-attn package; CUDA, half precision."""
    from flash_attn import flash_attn_func, flash_attn_varlen_func

    if documents is None:
        return flash_attn_func(q_BSND, k_BSKD, v_BSKD, causal=True)
    offsets, longest = documents.offsets, q_BSND.shape[1]  # longest: an upper bound is enough
    rows = (x.flatten(0, 1) for x in (q_BSND, k_BSKD, v_BSKD))
    out = flash_attn_varlen_func(*rows, offsets, offsets, longest, longest, causal=True)
    return out.unflatten(0, q_BSND.shape[:2])


@cache
def choose(device_type: str, dtype: torch.dtype, head_dim: int) -> Choice:
    """The fastest implementation that this device, precision and head size can have."""
    if device_type != "cuda":
        return Choice("sdpa", f"flash-attn needs CUDA, the device is {device_type}", sdpa)
    if importlib.util.find_spec("flash_attn") is None:
        return Choice("sdpa", "flash-attn is not installed", sdpa)
    if dtype not in FLASH_DTYPES:
        return Choice("sdpa", f"flash-attn needs half precision, not {dtype}", sdpa)
    if head_dim > FLASH_MAX_HEAD_DIM:
        reason = f"flash-attn takes head sizes up to {FLASH_MAX_HEAD_DIM}, not {head_dim}"
        return Choice("sdpa", reason, sdpa)
    return Choice("flash-attn", "CUDA, half precision and flash-attn is installed", flash)
