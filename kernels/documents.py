"""Where documents begin in packed sequences, in the forms in which implementations of attention ask for it.

Shapes: B batch, S and T sequence.
"""

from functools import cached_property

import torch


def sent(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy on the device that the host does not wait for: from page-locked memory, which torch keeps until then."""
    if device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)


class Documents:
    """Made once for a micro-batch; what an implementation does not ask for is never built.

    ``positions_BS``: int64, in the host's memory, the place of each token in its document. 0 begins one, and every
    sequence begins with it.
    """

    def __init__(self, positions_BS: torch.Tensor, device: torch.device) -> None:
        self.positions_BS = sent(positions_BS, device)
        self._host_BS = positions_BS
        self._bias_of: dict[torch.dtype, torch.Tensor] = {}

    def mask_B1ST(self) -> torch.Tensor:
        """bool: which tokens (T) each token (S) sees, those of its document up to itself."""
        number_BS = (self.positions_BS == 0).cumsum(1)
        same_BST = number_BS[:, :, None] == number_BS[:, None, :]
        return same_BST.tril().unsqueeze(1)

    def bias_B1ST(self, dtype: torch.dtype) -> torch.Tensor:
        """What the mask adds to the scores: 0 or minus infinity. One for all layers.

        SDPA makes this of a bool mask anew in each call, and every layer would keep its own for the backward pass.
        """
        if dtype not in self._bias_of:
            mask_B1ST = self.mask_B1ST()
            bias_B1ST = torch.zeros(mask_B1ST.shape, dtype=dtype, device=mask_B1ST.device)
            self._bias_of[dtype] = bias_B1ST.masked_fill_(~mask_B1ST, float("-inf"))
        return self._bias_of[dtype]

    @cached_property
    def offsets(self) -> torch.Tensor:
        """int32, (documents + 1,): where each begins in the sequences laid end to end, and the end of them all.

        Counted on the host: a device would have to be waited for.
        """
        starts = (self._host_BS.flatten() == 0).nonzero().flatten()
        end = torch.tensor([self._host_BS.numel()])
        return sent(torch.cat([starts, end]).to(torch.int32), self.positions_BS.device)
