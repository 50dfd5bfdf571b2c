"""Trains a byte-level BPE tokenizer (Sennrich et al., arXiv 1508.07909; on bytes as GPT-2 does it)."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from llmhpc.errors import StageError
from llmhpc.tokens import EOS, PAD, SPECIALS

MIN_PAIRS = 2  # a merge seen once is a memory of one document, not a unit of the language
Pair = tuple[str, str]

BLANK = "\u0120"  # a blank, in the letters that byte-level BPE writes bytes in

# How numbers are cut; keys are the values of the tokenizer stage's setting.
NUMBERS = {
    # one digit: numbers are spelt the same way everywhere, which makes them easier to count with
    "split": [r"\p{N}"],
    # Threes from the right, as commas stand: the digits of two numbers that are added then lie in the same places of
    # their tokens, and models are better at it (Singh and Strouse, arXiv 2402.14903). What follows a digit is looked
    # at 30 digits far, so that a million of them take no longer than a million letters; a longer row of digits is
    # cut from the left up to there.
    "up_to_999": [r"[0-9]{1,3}(?=(?:[0-9]{3}){0,10}(?![0-9]))", r"[0-9]{1,3}", r"\p{N}"],
}


def pattern(digits: str) -> str:
    """Pieces that no token crosses, tried in this order.

    Written for text with code in it; the idea of such a list is GPT-2's (Radford et al., 2019).
    """
    pieces = [
        r"'(?i:s|t|d|m|ll|re|ve)(?![\p{L}\p{M}])",  # the end of "it's", but not the start of 'static'
        r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+",  # a word with the one blank, dot or bracket before it
        *NUMBERS[digits],
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",  # operators and punctuation with the end of their line
        r"\s*[\r\n]+",  # empty lines and what hangs at the end of a line
        r"\s+(?!\S)",  # a run of blanks, less the one that goes with the next word: indentation is one token
        r"\s+",
    ]
    return "|".join(pieces)


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    digits: str = "split",
    blank_run: int = 1,
    special_tokens: Sequence[str] = (),
) -> Tokenizer:
    """A tokenizer of exactly ``vocab_size`` tokens; StageError if the texts have not enough pairs for it.

    ``digits`` is a key of NUMBERS; a run of up to ``blank_run`` blanks is one token, whatever the texts have.
    """
    numbers = _merges(_numerals(digits), [])
    specials = [*SPECIALS, *special_tokens]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(numbers),
        min_frequency=MIN_PAIRS,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained = untrained(models.BPE(), "split")  # digits alone: what they make together is given
    trained.train_from_iterator(texts, trainer)
    learned = [(a, b) for a, b in json.loads(trained.to_str())["model"]["merges"]]
    runs = [BLANK * length for length in range(2, blank_run + 1)]
    for kept in range(len(learned), -1, -1):  # the rarest make room for runs of blanks
        merges = numbers + learned[:kept]
        merges += _merges(runs, merges)
        ids = _ids(specials, merges)
        if len(ids) <= vocab_size:
            break
    if (size := len(ids)) != vocab_size:
        raise StageError(
            f"vocab_size={vocab_size}: needs {vocab_size - size} merges more, the sample has only {len(learned)} "
            f"pairs that occur {MIN_PAIRS} times or more; {size} or less, or more text (sample_mb)"
        )
    tokenizer = untrained(models.BPE(vocab=ids, merges=merges), digits)
    tokenizer.add_special_tokens(trainer.special_tokens)
    return tokenizer


def untrained(model: models.BPE, digits: str) -> Tokenizer:
    """What a tokenizer does beside its merges, which ``model`` has; ``digits`` as in train_bpe."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern(digits)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@cache
def byte_letters() -> dict[str, int]:
    """What byte-level BPE writes each byte as: printable ones as they are, others from U+0100 on (GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}


def _ids(specials: list[str], merges: list[Pair]) -> dict[str, int]:
    """Special tokens, bytes, then what is merged, in this order."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = dict.fromkeys([*specials, *alphabet, *(a + b for a, b in merges)])
    return {name: number for number, name in enumerate(names)}


def _numerals(digits: str) -> list[str]:
    """Numbers of two and of three digits that are tokens by themselves."""
    lengths = (2, 3) if digits == "up_to_999" else ()
    return ["".join(of) for length in lengths for of in product("0123456789", repeat=length)]


def _merges(words: list[str], merges: list[Pair]) -> list[Pair]:
    """What ``merges`` lacks to make a token of each word; ``words`` from short to long.

    New merges come last, so that each word is merged as before until nothing before them applies.
    """
    letters = set("".join(words))
    ranks = {pair: n for n, pair in enumerate(merges) if set(pair[0] + pair[1]) <= letters}
    added: list[Pair] = []
    for word in words:
        parts = list(word)
        while len(parts) > 1:
            pairs = list(pairwise(parts))
            place = min(
                range(len(pairs)), key=lambda n: ranks.get(pairs[n], len(merges) + len(added))
            )
            if pairs[place] not in ranks:
                ranks[pairs[place]] = len(merges) + len(added)
                added.append(pairs[place])
            parts[place : place + 2] = ["".join(pairs[place])]
    return added


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that transformers' AutoTokenizer opens as a fast tokenizer, without a network."""
    named = {"bos_token": EOS, "eos_token": EOS, "pad_token": PAD}
    write_folder(tokenizer.to_str(pretty=True), named, folder)


def write_folder(content: str, named: dict[str, str], folder: Path, **settings: Any) -> None:
    """Write the text of a tokenizer.json, the tokens that have a name, like eos_token, and further ``settings``."""
    folder.mkdir(parents=True)
    settings |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,  # decoding would drop blanks before punctuation
        "model_input_names": ["input_ids", "attention_mask"],
        **named,
    }
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    for name, record in {"tokenizer_config": settings, "special_tokens_map": named}.items():
        text = json.dumps(record, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
