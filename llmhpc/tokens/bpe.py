"""Trains a byte-level BPE tokenizer (Sennrich et al., arXiv 1508.07909; on bytes as GPT-2 does it)."""

import heapq
import json
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from llmhpc.errors import StageError
from llmhpc.tokens.shards import Progress, parse, place, read_lines, silent

EOS = "<|endoftext|>"  # id 0: begins and ends documents
PAD = "<|pad|>"  # id 1
SPECIALS = [EOS, PAD]
BYTES = 256  # the alphabet: with every byte in it nothing is unknown
MIN_PAIRS = 2  # a merge seen once is a memory of one document, not a unit of the language
MEASURED_BYTES = 10_000_000  # of held-out text, to know the bytes per token

# Pieces that no token crosses, tried in this order. Written for text with code in it; the idea of such a
# list is GPT-2's (Radford et al., 2019).
PIECES = [
    r"'(?i:s|t|d|m|ll|re|ve)(?![\p{L}\p{M}])",  # the end of "it's", but not the start of 'static'
    r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+",  # a word with the one blank, dot or bracket before it
    r"\p{N}",  # one digit: numbers are spelt the same way everywhere, which makes them easier to count with
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",  # operators and punctuation with the end of their line
    r"\s*[\r\n]+",  # empty lines and what hangs at the end of a line
    r"\s+(?!\S)",  # a run of blanks, less the one that goes with the next word: indentation is one token
    r"\s+",
]


@dataclass(slots=True)
class Sample:
    """Documents with the greatest keys, up to about ``budget_bytes`` of text: the same in any reading order."""

    budget_bytes: int
    size_bytes: int = 0
    _heap: list[tuple[float, str, int]] = field(default_factory=list)  # least key first

    def offer(self, key: float, text: str) -> None:
        """Take the document, and let go of those with the least keys that the budget does not need."""
        size = len(text.encode())
        heapq.heappush(self._heap, (key, text, size))
        self.size_bytes += size
        while self.size_bytes - self._heap[0][2] >= self.budget_bytes:
            self.size_bytes -= heapq.heappop(self._heap)[2]

    def texts(self) -> list[str]:
        """The documents' texts, greatest key first."""
        return [text for _, text, _ in sorted(self._heap, reverse=True)]


def pick(
    shards: list[Path], sample_bytes: int, heldout_fraction: float, progress: Progress = silent
) -> tuple[int, Sample, Sample]:
    """(documents read, those to train on, held-out ones to measure with), picked by their ids from all shards.

    Held-out ones are the first of those that a tokenize stage with this fraction, or a larger one, holds
    out; the ones to train on start at the other end of the line.
    """
    documents, train, heldout = 0, Sample(sample_bytes), Sample(MEASURED_BYTES)
    for line in read_lines(shards, progress):
        document = parse(line)
        where = place(document["id"])
        if where < heldout_fraction:
            heldout.offer(-where, document["text"])
        else:
            train.offer(where, document["text"])
        documents += 1
    return documents, train, heldout


def train_bpe(texts: list[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of exactly ``vocab_size`` tokens; StageError if the texts have not enough pairs for it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join(PIECES)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_PAIRS,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    if (size := tokenizer.get_vocab_size()) != vocab_size:
        base = BYTES + len(SPECIALS)
        raise StageError(
            f"vocab_size={vocab_size}: needs {vocab_size - base} merges, the sample has only {size - base} "
            f"pairs that occur {MIN_PAIRS} times or more; {size} or less, or more text (sample_mb)"
        )
    return tokenizer


def bytes_per_token(tokenizer: Tokenizer, texts: list[str]) -> tuple[int, int]:
    """(UTF-8 bytes, tokens) of the texts, without ends of documents."""
    tokens = sum(len(encoding) for encoding in tokenizer.encode_batch_fast(texts))
    return sum(len(text.encode()) for text in texts), tokens


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that transformers' AutoTokenizer opens as a fast tokenizer, without a network."""
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": EOS, "eos_token": EOS, "pad_token": PAD}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,  # decoding would drop blanks before punctuation
        "model_input_names": ["input_ids", "attention_mask"],
        **named,
    }
    for name, record in {"tokenizer_config": settings, "special_tokens_map": named}.items():
        (folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
