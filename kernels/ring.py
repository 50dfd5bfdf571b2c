"""Ring attention: each process has a part of the sequence, and keys and values go round (arXiv:2310.01889).

The sequence is cut into two chunks for each process. Of C processes, process r has chunks r and 2 C - 1 - r, so that
under a causal mask all have as much to do (Llama 3, arXiv:2407.21783, section 3.3.2). Attention to the keys of one
process is a block; blocks are put together by the logarithms of their sums of exponentials.

Shapes: B batch, S tokens of this process, N query heads, K key and value heads (N is a multiple of K), D head size; in
a block, R queries and T keys.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from llmhpc.kernels import attention
from llmhpc.kernels.attention import FLASH_DTYPES, FLASH_MAX_HEAD_DIM, Choice
from llmhpc.kernels.documents import Documents

HIDDEN = -1e30  # added to a score; minus infinity: a row that sees nothing is not a number
FLASH_HEAD_DIMS = 8  # torch's flash attention on CUDA takes multiples of it
ROWS = 1024  # queries whose scores the plain block holds at once
KEYS, GRADIENTS = 1, 2  # what is sent

aten = torch.ops.aten


class Ring:
    """The processes that share a sequence; each passes on to the next one."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group, self.rank, self.size = group, group.rank(), group.size()
        self._next, self._before = (
            dist.get_global_rank(group, (self.rank + step) % self.size) for step in (1, -1)
        )

    def places(
        self, tokens: int, owner: int | None = None, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """int64 (S,): where in the sequence the S ``tokens`` of ``owner`` (this process) are."""
        owner = self.rank if owner is None else owner
        return _places(tokens, owner, self.size, torch.device(device))

    def pass_on(self, tensor: torch.Tensor, tag: int) -> Callable[[], torch.Tensor]:
        """Start sending to the next process; what is returned waits for the same of the one before."""
        arriving = torch.empty_like(tensor)
        both = [
            dist.P2POp(dist.isend, tensor, self._next, self.group, tag),
            dist.P2POp(dist.irecv, arriving, self._before, self.group, tag),
        ]
        return partial(_arrived, dist.batch_isend_irecv(both), tensor, arriving)


@cache
def _places(tokens: int, owner: int, size: int, device: torch.device) -> torch.Tensor:
    chunk = torch.arange(tokens // 2)
    first, second = owner * len(chunk), (2 * size - 1 - owner) * len(chunk)
    return torch.cat([first + chunk, second + chunk]).to(device)


def _arrived(works: list[dist.Work], sent: torch.Tensor, arriving: torch.Tensor) -> torch.Tensor:
    """``sent`` is only kept alive until then."""
    for work in works:
        work.wait()
    return arriving


class Plain:
    """A block in plain operations, in float32 or more: the reference, on any device."""

    @staticmethod
    def forward(
        q_BNRD: torch.Tensor,
        k_BNTD: torch.Tensor,
        v_BNTD: torch.Tensor,
        causal: bool,
        bias_B1RT: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """softmax(q k^T / sqrt(D) + bias) v, (B, N, R, D), and the logarithms of the sums, (B, N, R)."""
        out, sums = [], []
        for rows in _some(q_BNRD.shape[2]):
            scores_BNRT = _scores(q_BNRD, k_BNTD, causal, bias_B1RT, rows)
            sums.append(scores_BNRT.logsumexp(-1))
            weights_BNRT = (scores_BNRT - sums[-1][..., None]).exp()
            out.append(weights_BNRT @ v_BNTD.to(weights_BNRT.dtype))
        return torch.cat(out, 2), torch.cat(sums, 2)

    @staticmethod
    def backward(
        grad_BNRD: torch.Tensor,
        q_BNRD: torch.Tensor,
        k_BNTD: torch.Tensor,
        v_BNTD: torch.Tensor,
        out_BNRD: torch.Tensor,
        sums_BNR: torch.Tensor,
        causal: bool,
        bias_B1RT: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gradients of q, k and v; ``out`` and ``sums`` are those of all blocks together."""
        wide = sums_BNR.dtype
        k, v = k_BNTD.to(wide), v_BNTD.to(wide)
        grad_k, grad_v, grad_q = torch.zeros_like(k), torch.zeros_like(v), []
        for rows in _some(q_BNRD.shape[2]):
            q, grad, out = (x[:, :, rows].to(wide) for x in (q_BNRD, grad_BNRD, out_BNRD))
            scores_BNRT = _scores(q_BNRD, k_BNTD, causal, bias_B1RT, rows)
            weights_BNRT = (scores_BNRT - sums_BNR[:, :, rows, None]).exp()
            mean_BNR1 = (grad * out).sum(-1, keepdim=True)
            of_scores_BNRT = weights_BNRT * (grad @ v.mT - mean_BNR1) * q.shape[-1] ** -0.5
            grad_q.append(of_scores_BNRT @ k)
            grad_k += of_scores_BNRT.mT @ q
            grad_v += weights_BNRT.mT @ grad
        return torch.cat(grad_q, 2), grad_k, grad_v


def _some(rows: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, rows, ROWS)]


def _scores(
    q_BNRD: torch.Tensor,
    k_BNTD: torch.Tensor,
    causal: bool,
    bias_B1RT: torch.Tensor | None,
    rows: slice,
) -> torch.Tensor:
    """(B, N, rows, T)."""
    wide = torch.promote_types(q_BNRD.dtype, torch.float32)
    scores_BNRT = q_BNRD[:, :, rows].to(wide) @ k_BNTD.to(wide).mT * q_BNRD.shape[-1] ** -0.5
    if bias_B1RT is not None:
        scores_BNRT = scores_BNRT + bias_B1RT[:, :, rows]
    if causal:
        later = torch.ones(scores_BNRT.shape[-2:], dtype=torch.bool, device=q_BNRD.device)
        scores_BNRT = scores_BNRT.masked_fill(later.triu(rows.start + 1), HIDDEN)
    return scores_BNRT


class CpuFlash:
    """A block by the kernel that torch's scaled_dot_product_attention takes on a CPU."""

    @staticmethod
    def forward(q: Any, k: Any, v: Any, causal: bool, bias: Any) -> Any:
        """As ``Plain.forward``."""
        return aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, causal, attn_mask=bias
        )

    @staticmethod
    def backward(
        grad: Any, q: Any, k: Any, v: Any, out: Any, sums: Any, causal: bool, bias: Any
    ) -> Any:
        """As ``Plain.backward``."""
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, sums, 0.0, causal, attn_mask=bias
        )


class CudaFlash:
    """A block by torch's own FlashAttention-2 (arXiv:2307.08691), in half precision; with a bias it is a plain one."""

    @staticmethod
    def forward(q: Any, k: Any, v: Any, causal: bool, bias: Any) -> Any:
        """As ``Plain.forward``."""
        if bias is not None:
            return Plain.forward(q, k, v, causal, bias)
        return aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)[:2]

    @staticmethod
    def backward(
        grad: Any, q: Any, k: Any, v: Any, out: Any, sums: Any, causal: bool, bias: Any
    ) -> Any:
        """As ``Plain.backward``."""
        if bias is not None:
            return Plain.backward(grad, q, k, v, out, sums, causal, bias)
        # without dropout no random numbers are read, and where all lengths are equal no offsets
        no_seed = torch.zeros(2, dtype=torch.int64, device=q.device)
        lengths = (None, None, q.shape[2], k.shape[2])
        return aten._scaled_dot_product_flash_attention_backward(
            grad, q, k, v, out, sums, *lengths, 0.0, causal, no_seed, no_seed
        )


Block = type[Plain] | type[CpuFlash] | type[CudaFlash]


class _View(NamedTuple):
    """Which queries of this process see which keys of another one, and what is added to their scores."""

    rows: slice
    keys: slice
    causal: bool
    bias_B1RT: torch.Tensor | None


def _view(
    ring: Ring, owner: int, tokens: int, begins_BS: torch.Tensor | None, dtype: torch.dtype
) -> _View:
    everything, half = slice(0, tokens), tokens // 2
    if owner == ring.rank:
        rows, keys = everything, everything
    elif owner < ring.rank:  # its second chunk is later than both of this process
        rows, keys = everything, slice(0, half)
    else:  # the first chunk of this process is earlier than both of that one
        rows, keys = slice(half, tokens), everything
    if begins_BS is None:
        return _View(rows, keys, owner == ring.rank, None)
    device = begins_BS.device
    place_R1 = ring.places(tokens, device=device)[rows, None]
    place_T = ring.places(tokens, owner, device)[keys]
    seen_BRT = (begins_BS[:, rows, None] <= place_T) & (place_T <= place_R1)
    bias_B1RT = torch.zeros(seen_BRT.shape, dtype=dtype, device=device).masked_fill_(
        ~seen_BRT, HIDDEN
    )
    return _View(rows, keys, False, bias_B1RT.unsqueeze(1))


class _RingAttention(torch.autograd.Function):
    """Forward and backward passes of ``attend``; both send what the next block needs while one is computed."""

    @staticmethod
    def forward(
        ctx: Any,
        q_BNSD: torch.Tensor,
        k_BKSD: torch.Tensor,
        v_BKSD: torch.Tensor,
        begins_BS: torch.Tensor | None,
        ring: Ring,
        block: Block,
    ) -> torch.Tensor:
        groups, tokens = q_BNSD.shape[1] // k_BKSD.shape[1], q_BNSD.shape[2]
        out, sums = torch.empty(0), torch.empty(0)
        both = torch.stack([k_BKSD, v_BKSD])
        for step in range(ring.size):
            owner = (ring.rank - step) % ring.size
            arrived = ring.pass_on(both, KEYS) if step + 1 < ring.size else None
            rows, keys, causal, bias = _view(ring, owner, tokens, begins_BS, q_BNSD.dtype)
            k, v = (x[:, :, keys].repeat_interleave(groups, 1) for x in both)
            part, part_sums = block.forward(q_BNSD[:, :, rows], k, v, causal, bias)
            if step == 0:
                wide = torch.promote_types(q_BNSD.dtype, torch.float32)
                out, sums = part.to(wide), part_sums.contiguous()
            else:
                before = sums[:, :, rows]
                total = torch.logaddexp(before, part_sums)
                out[:, :, rows] *= (before - total).exp().unsqueeze(-1)
                out[:, :, rows] += (part_sums - total).exp().unsqueeze(-1) * part
                sums[:, :, rows] = total
            if arrived is not None:
                both = arrived()
        out = out.to(q_BNSD.dtype)
        ctx.save_for_backward(q_BNSD, k_BKSD, v_BKSD, begins_BS, out, sums)
        ctx.ring, ctx.block = ring, block
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of keys and values go round with these, and once more, to where they belong."""
        q, k, v, begins_BS, out, sums = ctx.saved_tensors
        ring, grad = ctx.ring, grads[0]
        groups, tokens = q.shape[1] // k.shape[1], q.shape[2]
        grad_q = torch.zeros_like(q, dtype=sums.dtype)
        both, gradients = torch.stack([k, v]), None
        for step in range(ring.size):
            owner = (ring.rank - step) % ring.size
            arrived = ring.pass_on(both, KEYS) if step + 1 < ring.size else None
            rows, keys, causal, bias = _view(ring, owner, tokens, begins_BS, q.dtype)
            theirs = (x[:, :, keys].repeat_interleave(groups, 1) for x in both)
            known = (x[:, :, rows].contiguous() for x in (out, sums))
            of_q, *of_both = ctx.block.backward(
                grad[:, :, rows], q[:, :, rows], *theirs, *known, causal, bias
            )
            grad_q[:, :, rows] += of_q
            total = torch.zeros_like(both, dtype=sums.dtype) if gradients is None else gradients()
            for to, of in zip(total, of_both, strict=True):
                to[:, :, keys] += of.unflatten(1, (-1, groups)).sum(2, dtype=sums.dtype)
            gradients = ring.pass_on(total, GRADIENTS)
            if arrived is not None:
                both = arrived()
        assert gradients is not None
        grad_k, grad_v = gradients().to(k.dtype)
        return grad_q.to(q.dtype), grad_k, grad_v, None, None, None


def attend(
    q_BSND: torch.Tensor,
    k_BSKD: torch.Tensor,
    v_BSKD: torch.Tensor,
    documents: Documents | None = None,
    *,
    ring: Ring,
    block: Block,
) -> torch.Tensor:
    """Causal attention of this process's tokens to those of all: (B, S, N, D), as ``attention.reference`` of the whole.

    All processes of the ring call this together. ``documents`` has the positions of this process's tokens.
    """
    begins_BS = None
    if documents is not None:
        places_S = ring.places(q_BSND.shape[1], device=q_BSND.device)
        begins_BS = places_S - documents.positions_BS
    q, k, v = (x.transpose(1, 2) for x in (q_BSND, k_BSKD, v_BSKD))
    return _RingAttention.apply(q, k, v, begins_BS, ring, block).transpose(1, 2)


def choose(ring: Ring | None, device_type: str, dtype: torch.dtype, head_dim: int) -> Choice:
    """The fastest attention that this device, precision and head size can have; round the ring if there is one."""
    if ring is None:
        return attention.choose(device_type, dtype, head_dim)
    name, reason, block = _block(device_type, dtype, head_dim)
    return Choice(f"ring of {ring.size}, {name}", reason, partial(attend, ring=ring, block=block))


@cache
def _block(device_type: str, dtype: torch.dtype, head_dim: int) -> tuple[str, str, Block]:
    if device_type == "cpu":
        return "flash for CPUs", "torch has it", CpuFlash
    if device_type != "cuda":
        return "plain", f"flash attention needs CUDA, the device is {device_type}", Plain
    if dtype not in FLASH_DTYPES:
        return "plain", f"flash attention needs half precision, not {dtype}", Plain
    if head_dim > FLASH_MAX_HEAD_DIM or head_dim % FLASH_HEAD_DIMS:
        right = f"multiples of {FLASH_HEAD_DIMS} up to {FLASH_MAX_HEAD_DIM}"
        return "plain", f"flash attention takes head sizes that are {right}, not {head_dim}", Plain
    return "flash", "torch's own, CUDA and half precision; plain with a document mask", CudaFlash
