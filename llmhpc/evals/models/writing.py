"""Text that a model writes behind a prompt: the same whatever stands beside it in a batch, and in whatever order.

Legend: B rows of a batch, S tokens of a padded prompt, T tokens written at most, V vocabulary.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from llmhpc.errors import StageError
from llmhpc.evals.items import Writing
from llmhpc.evals.models.exports import Checkpoint

Tokens = tuple[int, ...]


class Row(NamedTuple):
    """Something to be written: behind these tokens, for the how manieth time."""

    prompt: Tokens
    sample: int


class Batch(NamedTuple):
    """Rows that are written at one time; a unit of work."""

    rows: tuple[Row, ...]  # long prompts first
    writing: Writing

    @property
    def positions(self) -> int:
        """Of all rows together, padding included."""
        return len(self.rows) * (len(self.rows[0].prompt) + self.writing.max_tokens)

    @property
    def hash(self) -> str:
        """Of all that decides the texts, beside the model: 16 hex digits."""
        how = self.writing._replace(samples=0, answer="")
        return hashlib.sha256(json.dumps([self.rows, how]).encode()).hexdigest()[:16]


class Writer:
    """Writes with a causal language model that Hugging Face transformers loads.

    Args:
        checkpoint: a model in evaluation mode and its tokenizer.
        batch_tokens: positions of one batch, padding and what is written included; it changes the speed, and
            of the texts only what hangs on the last bits of a likelihood.
    """

    def __init__(self, checkpoint: Checkpoint, batch_tokens: int) -> None:
        self.model, self.tokenizer = checkpoint.model, checkpoint.tokenizer
        self.max_length = checkpoint.max_length
        self.batch_tokens = batch_tokens
        ends = self.model.generation_config.eos_token_id  # one, several or none
        ends = ends if isinstance(ends, list) else [ends]
        self.ends = sorted({*ends, self.tokenizer.eos_token_id} - {None})

    def write(
        self,
        prompts: Sequence[str],
        writing: Writing,
        progress: Callable[[float], None] = lambda done: None,
    ) -> list[list[str]]:
        """For each prompt, in the order given, ``writing.samples`` texts up to the first stop sequence.

        Args:
            prompts: each begins a document; equal ones get equal texts.
            writing: how much is written, and how.
            progress: called with the fraction done after every batch.

        Raises:
            StageError: more is to be written than the model has positions.
        """
        batches = self.plan(prompts, writing)
        total, done = sum(batch.positions for batch in batches), 0
        texts: dict[Row, str] = {}
        for batch in batches:
            texts |= self.write_batch(batch)
            done += batch.positions
            progress(done / total)
        return self.collect(prompts, writing, texts)

    def plan(self, prompts: Sequence[str], writing: Writing) -> list[Batch]:
        """The batches, long prompts first; each distinct prompt once for each sample."""
        distinct = {self.fit(prompt, writing)[0] for prompt in set(prompts)}
        rows = [Row(tokens, sample) for tokens in distinct for sample in range(writing.samples)]
        rows.sort(key=lambda row: (-len(row.prompt), row))
        batches, start = [], 0
        while start < len(rows):
            size = len(rows[start].prompt) + writing.max_tokens
            count = max(1, self.batch_tokens // size)
            batches.append(Batch(tuple(rows[start : start + count]), writing))
            start += count
        return batches

    def collect(
        self, prompts: Sequence[str], writing: Writing, texts: Mapping[Row, str]
    ) -> list[list[str]]:
        """What ``write`` returns, out of the texts of all batches."""
        fitted = [self.fit(prompt, writing)[0] for prompt in prompts]
        return [[texts[Row(fit, n)] for n in range(writing.samples)] for fit in fitted]

    def fit(self, prompt: str, writing: Writing) -> tuple[Tokens, int]:
        """A prompt's tokens behind the one that begins a document, and how many it lost at its beginning to fit."""
        room = self.max_length - writing.max_tokens
        if room < 1:
            raise StageError(
                f"max_tokens={writing.max_tokens}: {self.max_length - 1} or fewer, "
                f"the model has {self.max_length} positions"
            )
        encoded = self.tokenizer.encode(prompt, add_special_tokens=False)
        tokens = (self.tokenizer.bos_token_id, *encoded)
        return tokens[-room:], max(0, len(tokens) - room)

    @torch.inference_mode()
    def write_batch(self, batch: Batch) -> dict[Row, str]:
        """The text of each row, in their order."""
        width = len(batch.rows[0].prompt)
        pad = self.ends[0] if self.ends else 0
        ids_BS = torch.full((len(batch.rows), width), pad)
        mask_BS = torch.zeros_like(ids_BS)
        for n, row in enumerate(batch.rows):
            ids_BS[n, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask_BS[n, width - len(row.prompt) :] = 1
        device, writing = self.model.device, batch.writing
        written = self.model.generate(  # type: ignore[operator]
            input_ids=ids_BS.to(device),
            attention_mask=mask_BS.to(device),
            generation_config=GenerationConfig(
                max_new_tokens=writing.max_tokens,
                do_sample=False,  # a sample is the likeliest token of what ``Drawn`` leaves
                eos_token_id=self.ends or None,
                pad_token_id=pad,
            ),
            logits_processor=[Drawn(batch, width)] if writing.temperature else [],
            stopping_criteria=[Stopped(self.tokenizer, writing.stop, width)],
        )
        texts = [self._text(tokens, writing) for tokens in written[:, width:].tolist()]
        return dict(zip(batch.rows, texts, strict=True))

    def _text(self, tokens: list[int], writing: Writing) -> str:
        end = next((n for n, token in enumerate(tokens) if token in self.ends), len(tokens))
        text = decoded(self.tokenizer, [tokens[:end]])[0]
        return text[: min((text.find(stop) for stop in writing.stop if stop in text), default=None)]


class Drawn(LogitsProcessor):
    """Leaves of each row's tokens only one, drawn from its distribution by numbers that are the row's own."""

    def __init__(self, batch: Batch, width: int) -> None:
        self.temperature, self.width = batch.writing.temperature, width
        self.draws_BT = torch.stack([_draws(row, batch.writing) for row in batch.rows])

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits (B, V) of which all but the one drawn are minus infinity."""
        draws_B1 = self.draws_BT[:, input_ids.shape[1] - self.width, None].to(scores.device)
        # the inverse of the cumulative distribution; in float64 a sum's order changes no token
        sums_BV = (scores.double() / self.temperature).softmax(-1).cumsum(-1)
        tokens_B1 = torch.searchsorted(sums_BV, draws_B1 * sums_BV[:, -1:], right=True)
        tokens_B1 = tokens_B1.clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens_B1, 0.0)


def _draws(row: Row, writing: Writing) -> Tensor:
    """Numbers in [0, 1) for a row, one for each token: by its prompt, its sample and the seed alone."""
    key = json.dumps([writing.seed, row.sample, row.prompt]).encode()
    seed = int.from_bytes(hashlib.sha256(key).digest()[:7], "big")
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(writing.max_tokens, generator=generator, dtype=torch.float64)


class Stopped(StoppingCriteria):
    """True for the rows in which a stop sequence has just been completed, in however many tokens."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], width: int) -> None:
        self.tokenizer, self.stop, self.width = tokenizer, stop, width
        # a token has a byte or more; one token beside, as decoders drop a space at the very beginning
        self.tail = max((len(text.encode()) for text in stop), default=0) + 1

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Of all rows (B,)."""
        start = max(self.width, input_ids.shape[1] - self.tail)
        texts = decoded(self.tokenizer, input_ids[:, start:].tolist())
        done = [any(stop in text for stop in self.stop) for text in texts]
        return torch.tensor(done, device=input_ids.device)


def decoded(tokenizer: Any, tokens: list[list[int]]) -> list[str]:
    """Texts of token ids as they stand, special tokens and spaces included."""
    return tokenizer.batch_decode(
        tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
