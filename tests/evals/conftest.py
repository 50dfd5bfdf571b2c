"""A training step's exports and a tokenize step's held-out documents, made on the spot."""

import json
import random
from pathlib import Path

import pytest
import zstandard

TOPICS = """
red blue green yellow violet brown paint brush canvas
bread butter cheese salt pepper soup plate spoon oven
river stone tree leaf wind rain cloud hill valley
wheel engine brake road driver lorry bridge tunnel fuel
violin drum flute piano choir singer melody chord tempo
doctor nurse fever pulse bandage clinic tablet cough wound
needle thread cloth button sleeve collar pocket wool silk
captain sail anchor harbour deck mast rope tide sailor
""".strip()
STEPS = (0, 30, 120)
LENGTH = 128  # positions


def document(number: int) -> dict:
    """A document whose sentences all keep to the words of one topic."""
    rnd = random.Random(number)
    topics = TOPICS.splitlines()
    words = topics[number % len(topics)].split()
    sentences = [
        " ".join(rnd.choice(words) for _ in range(rnd.randint(5, 9))).capitalize() + "."
        for _ in range(rnd.randint(12, 24))
    ]
    text = "".join(sentence + rnd.choice([" ", "\n"]) for sentence in sentences)
    return {"text": text + "Näh!", "id": f"<page:{number}>", "metadata": {"url": f"u/{number}"}}


def train(texts: list[str], folder: Path, steps: tuple[int, ...] = STEPS) -> None:
    """Train a tiny Llama for a few seconds; write its exports as a training step does."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    eos, pad = "<|endoftext|>", "<|pad|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=eos, eos_token=eos, pad_token=pad
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    tokens = torch.tensor([t for text in texts for t in (*bpe.encode(text).ids, 0)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    exports = []
    for step in range(steps[-1] + 1):
        if step in steps:
            name = f"exports/{step:06d}"
            model.save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)
            exports.append({"step": step, "tokens": step * 8 * LENGTH, "path": name})
        starts = torch.randint(0, len(tokens) - LENGTH, (8,), generator=generator).tolist()
        batch = torch.stack([tokens[start : start + LENGTH] for start in starts])
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    (folder / "exports.json").write_text(json.dumps(exports))


@pytest.fixture(scope="session")
def train_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    train([document(number)["text"] for number in range(100, 400)], folder)
    return folder


@pytest.fixture(scope="session")
def untrained_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same before its first step, where it does not matter how good the model is."""
    folder = tmp_path_factory.mktemp("untrained")
    train([document(number)["text"] for number in range(100, 120)], folder, (0,))
    return folder


@pytest.fixture(scope="session")
def tokens_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    write_heldout(folder, [document(number) for number in range(24)])
    return folder


def write_heldout(folder: Path, documents: list[dict]) -> None:
    path = folder / "heldout" / "documents.jsonl.zst"
    path.parent.mkdir()
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    path.write_bytes(zstandard.ZstdCompressor().compress(lines.encode()))
