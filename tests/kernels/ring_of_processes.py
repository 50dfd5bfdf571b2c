"""One of four processes that compare ring attention with the reference on the whole sequence, in rings of 2 and of 4.

python ring_of_processes.py RANK FOLDER    gloo, float64; prints a line per case
"""

import itertools
import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from llmhpc.kernels import attention, ring
from llmhpc.kernels.documents import Documents

PROCESSES, SEQUENCE = 4, 48
BLOCKS = {"plain": ring.Plain, "flash": ring.CpuFlash}
DOCUMENTS = [[5, 1, 20, 22], [48]]  # of two sequences


def main() -> None:
    rank, folder = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=60),
    )
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    for group in (pairs[rank // 2], dist.group.WORLD):
        here = ring.Ring(group)
        for block, key_heads, masked in itertools.product(BLOCKS, (1, 4), (False, True)):
            difference = compare(here, BLOCKS[block], key_heads, masked=masked)
            print(f"{here.size} {block} {key_heads} {masked}: {difference:.1e}")
    dist.barrier()
    dist.destroy_process_group()


def compare(here: ring.Ring, block: ring.Block, key_heads: int, *, masked: bool) -> float:
    """The greatest difference of results and gradients."""
    generator = torch.Generator().manual_seed(0)
    whole = [
        torch.randn(2, SEQUENCE, heads, 16, generator=generator, dtype=torch.float64)
        for heads in (4, key_heads, key_heads)
    ]
    positions = torch.tensor([[i for n in row for i in range(n)] for row in DOCUMENTS])
    mine = here.places(SEQUENCE // here.size)
    parts = [x[:, mine].requires_grad_() for x in whole]
    whole = [x.requires_grad_() for x in whole]
    device = torch.device("cpu")
    expected = attention.reference(*whole, Documents(positions, device) if masked else None)
    own = Documents(positions[:, mine], device) if masked else None
    got = ring.attend(*parts, own, ring=here, block=block)
    expected.square().sum().backward()
    got.square().sum().backward()
    both = [
        (got, expected),
        *((one.grad, other.grad) for one, other in zip(parts, whole, strict=True)),
    ]
    return max((one - other[:, mine]).abs().max().item() for one, other in both)


if __name__ == "__main__":
    main()
