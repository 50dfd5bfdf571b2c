"""Log-likelihoods of continuations: each distinct pair and each context once, the head only where scored.

Legend: B rows of a batch, S positions, N scored positions, D hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llmhpc.errors import StageError

HEAD_ELEMENTS = 1 << 21  # logits made at once: 8 MB in float32, so that they stay near the cache
BRANCHING = {
    "llama"
}  # architectures that were seen to keep to a mask and positions given from outside

Tokens = tuple[int, ...]


class Pair(NamedTuple):
    """Token ids: what stands before, and what is scored."""

    context: Tokens
    continuation: Tokens


class Score(NamedTuple):
    """Of one pair: log p(continuation | context)."""

    logprob: float  # nats
    greedy: bool  # greedy decoding gives the continuation
    truncated: int = 0  # tokens that the context lost at its beginning to fit in the model


class Row(NamedTuple):
    """A context and the continuations that branch off from it; its last tokens are never inputs.

    The continuations stand one after the other, each at the positions that follow the context, and see the
    context and themselves: the context is computed once for all of them. A context of one token is not
    worth a mask.
    """

    context: Tokens
    branches: tuple[Tokens, ...]

    @property
    def size(self) -> int:
        """Positions of the row in a batch."""
        return len(self.context) + sum(len(branch) - 1 for branch in self.branches)


class Scorer:
    """Scores pairs with a causal language model that Hugging Face transformers loads.

    Args:
        model: a model in evaluation mode; its device is where the work is done.
        max_length: positions that the model was made for.
        batch_tokens: positions of one batch, padding included; it changes the speed, not the scores.
    """

    def __init__(self, model: Any, max_length: int, batch_tokens: int) -> None:
        self.model = model
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        # Rows much longer than the model's context would pay for a mask that is mostly empty.
        branching = model.config.model_type in BRANCHING
        branching = branching and model.config._attn_implementation == "sdpa"
        self.row_tokens = 2 * max_length if branching else 0

    def score(
        self, pairs: Sequence[Pair], progress: Callable[[float], None] = lambda done: None
    ) -> list[Score]:
        """A score for every pair, in the order given.

        A context too long for the model loses its beginning, and its score says so.

        Args:
            pairs: contexts of at least one token, continuations of 1..max_length tokens.
            progress: called with the fraction done after every batch.

        Raises:
            StageError: a continuation that does not fit in the model, or an empty one.
        """
        fitted = [self._fit(pair) for pair in pairs]
        rows = sorted(self._rows(fitted), key=lambda row: (-row.size, row))
        total, done = sum(row.size for row in rows), 0
        scores: dict[Pair, Score] = {}
        for batch in self._batches(rows):
            scores.update(self._score_batch(batch))
            done += sum(row.size for row in batch)
            progress(done / total)
        return [
            scores[fit]._replace(truncated=len(pair.context) - len(fit.context))
            for pair, fit in zip(pairs, fitted, strict=True)
        ]

    def _fit(self, pair: Pair) -> Pair:
        if not 0 < len(pair.continuation) <= self.max_length:
            raise StageError(
                f"a text of {len(pair.continuation)} tokens to score: 1 to {self.max_length}, "
                "the model's positions"
            )
        room = self.max_length - len(pair.continuation) + 1  # the last token is never an input
        return Pair(pair.context[-room:], pair.continuation)

    def _rows(self, pairs: Iterable[Pair]) -> Iterator[Row]:
        """Distinct pairs, those of one context together up to ``row_tokens`` positions."""
        continuations: dict[Tokens, dict[Tokens, None]] = {}
        for pair in pairs:
            continuations.setdefault(pair.context, {})[pair.continuation] = None
        for context, branches in continuations.items():
            row = Row(context, ())
            for branch in branches:
                full = len(context) == 1 or row.size + len(branch) - 1 > self.row_tokens
                if row.branches and full:
                    yield row
                    row = Row(context, ())
                row = Row(context, (*row.branches, branch))
            yield row

    def _batches(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """Cuts rows that are sorted by falling size."""
        start = 0
        while start < len(rows):
            count = max(1, self.batch_tokens // rows[start].size)
            yield rows[start : start + count]
            start += count

    def _score_batch(self, batch: Sequence[Row]) -> dict[Pair, Score]:
        pairs = [Pair(row.context, branch) for row in batch for branch in row.branches]
        sizes = [len(pair.continuation) for pair in pairs]
        targets_N = torch.tensor([token for pair in pairs for token in pair.continuation])
        rows_N, columns_N = _scored_positions(batch)
        logprobs_N, greedy_N = self._forward(_inputs(batch), rows_N, columns_N, targets_N)
        parts = zip(pairs, logprobs_N.split(sizes), greedy_N.split(sizes), strict=True)
        return {
            pair: Score(logprobs.double().sum().item(), bool(greedy.all()))
            for pair, logprobs, greedy in parts
        }

    @torch.inference_mode()
    def _forward(
        self, inputs: dict[str, Tensor], rows_N: Tensor, columns_N: Tensor, targets_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log probability of each target token (N, float32, on CPU), and whether it is the likeliest."""
        device = self.model.device
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        hidden_BSD = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        hidden_ND = hidden_BSD[rows_N.to(device), columns_N.to(device)]
        head = self.model.get_output_embeddings()
        step = max(1, HEAD_ELEMENTS // head.weight.shape[0])
        logprobs, greedy = [], []
        chunks = zip(hidden_ND.split(step), targets_N.to(device).split(step), strict=True)
        for hidden_nD, targets_n in chunks:
            logits_nV = head(hidden_nD).float()
            target_n = logits_nV.gather(1, targets_n[:, None])[:, 0]
            logprobs.append(target_n - logits_nV.logsumexp(1))
            greedy.append(logits_nV.argmax(1) == targets_n)
        return torch.cat(logprobs).cpu(), torch.cat(greedy).cpu()


def _inputs(batch: Sequence[Row]) -> dict[str, Tensor]:
    """What the model reads: token ids (B, S), and for rows with branches positions and a mask (B, 1, S, S).

    Padding on the right is never seen from the left, so it needs no mask.
    """
    ids, positions, parts = [], [], []
    for row in batch:
        start = len(row.context)
        ids.append(torch.tensor([*row.context, *(t for b in row.branches for t in b[:-1])]))
        spans = [torch.arange(start, start + len(branch) - 1) for branch in row.branches]
        positions.append(torch.cat([torch.arange(start), *spans]))
        sizes = torch.tensor([start, *(len(branch) - 1 for branch in row.branches)])
        parts.append(torch.arange(len(sizes)).repeat_interleave(sizes))  # 0: context; 1...: branch
    ids_BS = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    if all(len(row.branches) == 1 for row in batch):
        return {"input_ids": ids_BS}
    positions_BS = torch.nn.utils.rnn.pad_sequence(positions, batch_first=True)
    parts_BS = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=-1)
    own_BSS = parts_BS[:, :, None] == parts_BS[:, None, :]
    context_B1S = (parts_BS == 0)[:, None, :]
    mask_B1SS = ((own_BSS | context_B1S).tril())[:, None]
    return {"input_ids": ids_BS, "position_ids": positions_BS, "attention_mask": mask_B1SS}


def _scored_positions(batch: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Row and column (N each) of the position that predicts each token of each branch."""
    columns, counts = [], []
    for row in batch:
        start = len(row.context)
        for branch in row.branches:
            columns.append(torch.tensor([len(row.context) - 1]))  # predicts the first token
            columns.append(torch.arange(start, start + len(branch) - 1))
            start += len(branch) - 1
        counts.append(sum(len(branch) for branch in row.branches))
    return torch.arange(len(batch)).repeat_interleave(torch.tensor(counts)), torch.cat(columns)
