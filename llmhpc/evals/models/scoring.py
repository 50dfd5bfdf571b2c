"""Log-likelihoods of continuations: what texts have in common is computed once, the head only where it is needed.

Legend: B rows of a batch, S positions of a row, P of the prefix, N scored tokens, U positions that predict them
(one can predict several), D hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmhpc.errors import StageError
from llmhpc.evals.models.batches import Batch, Pair, Planner, Tokens, Tree, tree

HEAD_ELEMENTS = 1 << 23  # logits made at once: 32 MB in float32
BRANCHING = {"llama", "granite"}  # seen to keep to a mask, positions and keys given from outside

__all__ = ["Batch", "Pair", "Score", "Scorer"]


class Score(NamedTuple):
    """Of one pair: log p(continuation | context)."""

    logprob: float  # nats
    greedy: bool  # greedy decoding gives the continuation
    truncated: int = 0  # tokens that the context lost at its beginning to fit in the model


class Scorer:
    """Scores pairs with a causal language model that Hugging Face transformers loads.

    Args:
        model: a model in evaluation mode; its device is where the work is done.
        max_length: positions that the model was made for.
        batch_tokens: positions of one batch, padding included; it changes the speed, not the scores.

    Raises:
        StageError: the model's logits are not what its head makes of its last hidden states.
    """

    def __init__(self, model: Any, max_length: int, batch_tokens: int) -> None:
        self.model = model
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.head = model.get_output_embeddings()
        self.scaling = getattr(model.config, "logits_scaling", 1.0)  # Granite's
        known = model.config.model_type in BRANCHING
        self.branching = known and model.config._attn_implementation == "sdpa"
        self._prefix: tuple[Tokens, list[Any]] = ((), [])  # of the batch before, and its cache
        if not known:
            self._try_head()

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
        batches = self.plan(pairs)
        total, done = sum(batch.positions for batch in batches), 0
        scores: dict[Pair, Score] = {}
        for batch in batches:
            scores |= self.score_batch(batch)
            done += batch.positions
            progress(done / total)
        return self.collect(pairs, scores)

    def plan(self, pairs: Iterable[Pair]) -> list[Batch]:
        """The batches in which the pairs are scored: the same for the same pairs, whatever their order.

        A batch is worth about ``batch_tokens`` positions, and it can be scored in any process.

        Raises:
            StageError: as ``score`` does.
        """
        fitted = {self.fit(pair) for pair in pairs}
        hidden = self.model.config.hidden_size
        return Planner(fitted, self.batch_tokens, hidden, self.branching).batches

    def fit(self, pair: Pair) -> Pair:
        """The pair with as much of its context as the model has positions for: that is what a batch holds."""
        if not 0 < len(pair.continuation) <= self.max_length:
            raise StageError(
                f"a text of {len(pair.continuation)} tokens to score: 1 to {self.max_length}, "
                "the model's positions"
            )
        room = self.max_length - len(pair.continuation) + 1  # the last token is never an input
        return Pair(pair.context[-room:], pair.continuation)

    def collect(self, pairs: Iterable[Pair], scores: Mapping[Pair, Score]) -> list[Score]:
        """The score of every pair, in the order given, out of those of all batches."""
        result = []
        for pair in pairs:
            fit = self.fit(pair)
            lost = len(pair.context) - len(fit.context)
            result.append(scores[fit]._replace(truncated=lost))
        return result

    @torch.inference_mode()
    def score_batch(self, batch: Batch) -> dict[Pair, Score]:
        """Scores of the batch's pairs, in their order; bit for bit the same each time on the same machine."""
        trees = [tree(row, len(batch.prefix)) for row in batch.rows]
        pairs = batch.pairs
        places_N = torch.tensor(
            [
                number * batch.width + column
                for number, row in enumerate(trees)
                for columns in row.predicting
                for column in columns
            ]
        )
        targets_N = torch.tensor([token for pair in pairs for token in pair.continuation])
        hidden_BSD = self._hidden(batch, trees)
        logprobs_N, greedy_N = self._predict(hidden_BSD.flatten(0, 1), places_N, targets_N)
        sizes = [len(pair.continuation) for pair in pairs]
        parts = zip(pairs, logprobs_N.split(sizes), greedy_N.split(sizes), strict=True)
        return {
            pair: Score(logprobs.double().sum().item(), bool(greedy.all()))
            for pair, logprobs, greedy in parts
        }

    def _hidden(self, batch: Batch, trees: Sequence[Tree]) -> Tensor:
        """The last hidden states (B, S, D). Padding on the right is never seen from the left."""
        device = self.model.device
        ids_BS = _padded([row.tokens for row in trees], 0)
        inputs: dict[str, Any] = {"input_ids": ids_BS.to(device), "use_cache": False}
        alone = all(min(row.ends) == len(row.ends) for row in trees)  # nothing branches
        if batch.prefix or not alone:
            mask = _mask(trees, len(batch.prefix)).to(device)
            inputs["attention_mask"] = torch.zeros_like(mask, dtype=self.model.dtype).masked_fill_(
                ~mask, -torch.inf
            )
            inputs["position_ids"] = _padded([row.places for row in trees], 0).to(device)
        if batch.prefix:
            inputs["past_key_values"] = _Behind(self._keys(batch.prefix))
        return self.model.base_model(**inputs).last_hidden_state

    def _keys(self, prefix: Tokens) -> list[Any]:
        """Each layer's keys and values of a prefix; those of the last one are kept."""
        if self._prefix[0] != prefix:
            ids_1P = torch.tensor([prefix], device=self.model.device)
            cache = self.model.base_model(input_ids=ids_1P, use_cache=True).past_key_values
            self._prefix = (prefix, [(layer.keys, layer.values) for layer in cache.layers])
        return self._prefix[1]

    def _predict(
        self, hidden_MD: Tensor, places_N: Tensor, targets_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log probability of each target token (N, float32, on CPU), and whether it is the likeliest."""
        places_U, of_N = places_N.unique(return_inverse=True)
        hidden_UD = hidden_MD[places_U.to(hidden_MD.device)]
        logprobs_N = torch.empty(len(targets_N))
        greedy_N = torch.empty(len(targets_N), dtype=torch.bool)
        step = max(1, HEAD_ELEMENTS // self.head.weight.shape[0])
        for start in range(0, len(places_U), step):
            mine_n = ((of_N >= start) & (of_N < start + step)).nonzero()[:, 0]
            logits_uV = self._logits(hidden_UD[start : start + step])
            of_n, targets_n = (of_N[mine_n] - start), targets_N[mine_n]
            logprobs_n, greedy_n = _of_targets(
                logits_uV, of_n.to(logits_uV.device), targets_n.to(logits_uV.device)
            )
            logprobs_N[mine_n], greedy_N[mine_n] = logprobs_n.cpu(), greedy_n.cpu()
        return logprobs_N, greedy_N

    def _logits(self, hidden_UD: Tensor) -> Tensor:
        return self.head(hidden_UD).float().div_(self.scaling)

    @torch.inference_mode()
    def _try_head(self) -> None:
        ids = torch.arange(4, device=self.model.device)[None]
        wanted = self.model(input_ids=ids, use_cache=False).logits.float()
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        if not torch.allclose(self._logits(hidden), wanted, atol=1e-3, rtol=1e-3):
            raise StageError(
                f"model_type={self.model.config.model_type}: {', '.join(sorted(BRANCHING))} or another "
                "whose logits are what its head makes of the last hidden states"
            )


class _Behind:
    """The keys and values of a prefix before those of every row; what transformers calls a cache."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers

    def update(
        self, keys_BHSd: Tensor, values_BHSd: Tensor, layer: int, *_: Any
    ) -> tuple[Tensor, Tensor]:
        """Those of the prefix and of the row; nothing is kept."""
        rows = len(keys_BHSd)
        keys, values = (tensor.expand(rows, -1, -1, -1) for tensor in self.layers[layer])
        return torch.cat([keys, keys_BHSd], 2), torch.cat([values, values_BHSd], 2)


def _of_targets(logits_uV: Tensor, of_n: Tensor, targets_n: Tensor) -> tuple[Tensor, Tensor]:
    """log_softmax and argmax at the targets alone, with fewer passes over the logits, which it overwrites."""
    target_n = logits_uV[of_n, targets_n]
    greatest_u = logits_uV.amax(1)
    greedy_n = target_n == greatest_u[of_n]
    of_g = of_n[greedy_n]  # where several are the greatest, the first is taken
    greedy_n[greedy_n.clone()] = logits_uV[of_g].argmax(1) == targets_n[greedy_n]
    total_u = logits_uV.sub_(greatest_u[:, None]).exp_().sum(1)
    return target_n - (greatest_u + total_u.log())[of_n], greedy_n


def _padded(rows: Iterable[Sequence[int]], value: int) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], True, value)


def _mask(trees: Sequence[Tree], prefix: int) -> Tensor:
    """Which keys each position sees: the prefix, and what it comes from in its tree (B, 1, S, P + S).

    Padding sees itself: a position that sees nothing would have no number as its state.
    """
    ends_BS = _padded([row.ends for row in trees], 1 << 40)
    columns_S = torch.arange(ends_BS.shape[1])
    mask_BSS = (columns_S[:, None] < ends_BS[:, None, :]).tril()
    return torch.nn.functional.pad(mask_BSS, (prefix, 0), value=True)[:, None]
