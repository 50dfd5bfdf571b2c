"""Questions, texts, a tokenizer and a model of about ten million parameters, made on the spot by a seed."""

import json
import random
from pathlib import Path
from typing import Any

POSITIONS = 2048
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
LAYERS = {  # 7.8 million parameters; embedding and head have half a million for each thousand tokens
    "hidden_size": 256,
    "intermediate_size": 672,
    "num_hidden_layers": 10,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


class Language:
    """Words of one to three syllables, the frequent ones short: the k-th is drawn in proportion to (k + 2) ** -1.2."""

    def __init__(self, seed: int, words: int = 30_000) -> None:
        self.random = random.Random(seed)
        ends = ("a", "e", "i", "o", "u", "ar", "en")
        syllables = [begin + end for begin in "bdfghklmnprstvw" for end in ends]
        found: dict[str, None] = {}
        while len(found) < words:
            count = 1 if len(found) < 60 else 2 if len(found) < 4000 else 3
            found["".join(self.random.choices(syllables, k=count))] = None
        self.words = list(found)
        self.weights = [(rank + 2) ** -1.2 for rank in range(words)]

    def sentence(self, least: int, most: int) -> str:
        """Of ``least`` to ``most`` words."""
        count = self.random.randint(least, most)
        return " ".join(self.random.choices(self.words, self.weights, k=count))


def questions(count: int, shots: int = 0) -> list[dict[str, Any]]:
    """Four-way questions of 10-40 words with answers of 2-12; a third have a passage, which three share.

    Args:
        count: of questions.
        shots: solved questions that stand before each.
    """
    language = Language(1)

    def question() -> str:
        return f"Question: {language.sentence(10, 40).capitalize()}?\nAnswer:"

    examples = [f"{question()} {language.sentence(2, 12)}.\n\n" for _ in range(shots)]
    rows: list[dict[str, Any]] = []
    passage = ""
    for number in range(count):
        if number % 9 in (0, 3):
            passage = f"{language.sentence(40, 80).capitalize()}.\n\n" if number % 9 == 0 else ""
        rows.append(
            {
                "id": str(number),
                "prompt": "".join(examples) + passage + question(),
                "choices": [f" {language.sentence(2, 12)}." for _ in range(4)],
                "gold": language.random.randrange(4),
            }
        )
    return rows


def texts(count: int) -> list[dict[str, Any]]:
    """Texts of rising length, the last of them longer than the model's positions."""
    language = Language(3)
    return [
        {
            "id": str(number),
            "prompt": " ".join(language.sentence(5, 15) for _ in range(20 + 25 * number)),
        }
        for number in range(count)
    ]


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """A byte-level BPE of exactly ``vocabulary`` tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    language = Language(2)
    texts = [" ".join(language.words)]
    texts += [
        f"Question: {language.sentence(10, 40)}?\nAnswer: {language.sentence(2, 12)}."
        for _ in range(4000)
    ]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[BOS, EOS, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=POSITIONS,
    ).save_pretrained(folder)


def write_model(folder: Path, vocabulary: int) -> int:
    """A Llama with random weights, and its tokenizer; returns how many parameters it has."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        **LAYERS,
        max_position_embeddings=POSITIONS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.08,  # so that likelihoods differ
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    write_tokenizer(folder, vocabulary)
    return model.num_parameters()


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """As one JSON line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What ``write_rows`` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]
