"""A GGUF file has the network and the vocabulary of the folder: by gguf's reader, and by the one in transformers."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from llmhpc import to_gguf
from llmhpc.models.llama import Config, RopeScaling, hugging_face
from llmhpc.tokens import bpe

gguf = pytest.importorskip("gguf", reason="pip install gguf")
pytestmark = pytest.mark.slow

ROWS, TOKENS = 352, 340  # of the embedding, of which some are to spare
# what llama.cpp does for qwen35 (llm_tokenizer_bpe in its llama-vocab.cpp)
QWEN35 = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"
    r"|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    "It's na\u00efve: e\u0301, they'll PAY 12345.67 \u0939\u093f\u0928\u094d\u0926\u0940 \u4e2d\u6587!",
    "def f(a, b):\n\n    return {'x': a+b}  # sum\r\n\t\tdone   \n",
    "\U0001f469\u200d\U0001f4bb \u0301x  <|endoftext|> a\u00a0b",
]


def folder_of(folder, texts, model, dtype, digits="split"):
    """What training exports, of a network with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = bpe.train_bpe(texts, TOKENS, digits)
    bpe.save(tokenizer, folder)
    content = hugging_face.config(model, sequence_length=64, dtype=dtype)
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    torch.manual_seed(5)
    network = LlamaForCausalLM(LlamaConfig(**content | special)).to(getattr(torch, dtype))
    network.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(content | special))
    return folder


@pytest.fixture(scope="module")
def texts(prose):
    return [page["text"] for page in prose(40)]


def shape(**changes):
    return Config(vocab_size=ROWS, hidden_size=64, layers=2, intermediate_size=96, **changes)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_it_is_the_same_network(tied, dtype, texts, tmp_path, capsys):
    from transformers import AutoModelForCausalLM

    model = shape(tied_embeddings=tied)
    folder = folder_of(tmp_path / "folder", texts, model, dtype)
    assert to_gguf.main([str(folder), str(folder / "model.gguf")]) == 0
    assert "model.gguf: " in capsys.readouterr().out
    there = {t.name: t for t in gguf.GGUFReader(folder / "model.gguf").tensors}
    assert len(there) == len(hugging_face.rows(model))
    assert there["blk.1.ffn_up.weight"].tensor_type.name == {"float32": "F32", "bfloat16": "BF16"}[dtype]  # fmt: skip
    ids = torch.randint(0, ROWS, (2, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = (
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how)(ids).logits
            for how in ({"gguf_file": "model.gguf"}, {})
        )
    assert (ours - theirs).abs().max() < 1e-4
    assert theirs.std() > 0.05


def test_it_has_the_vocabulary(texts, tmp_path):
    folder = folder_of(tmp_path / "folder", texts, shape(), "float32")
    to_gguf.convert(folder, tmp_path / "model.gguf")
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    said = {name.rpartition(".")[2]: field.contents() for name, field in fields.items()}
    assert (said["pre"], said["model"], said["bos_token_id"], said["padding_token_id"]) == ("qwen35", "gpt2", 0, 1)  # fmt: skip
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert said["tokens"][:TOKENS] == [own.id_to_token(n) for n in range(TOKENS)]
    assert said["token_type"] == [3, 3] + [1] * (TOKENS - 2) + [5] * (ROWS - TOKENS)
    # as llama.cpp puts it together
    vocabulary = {token: n for n, token in enumerate(said["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in said["merges"]]
    other = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    pieces = pre_tokenizers.Split(Regex(QWEN35), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    other.pre_tokenizer = pre_tokenizers.Sequence([pieces, letters])
    other.decoder = decoders.ByteLevel()
    own.encode_special_tokens = True
    for text in [*TEXTS, *texts]:
        assert other.encode(text).ids == own.encode(text, add_special_tokens=False).ids, text


def test_slower_rotary_positions_are_a_tensor(texts, tmp_path):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    model = shape(rope_scaling=RopeScaling(factor=8.0, original_positions=32))
    folder = folder_of(tmp_path / "folder", texts, model, "bfloat16")
    to_gguf.convert(folder, tmp_path / "model.gguf")
    (slower,) = (t for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors if t.name == "rope_freqs.weight")  # fmt: skip
    plain = 10000.0 ** -(np.arange(0, model.head_dim, 2) / model.head_dim)
    content = json.loads((folder / "config.json").read_text())
    theirs = LlamaRotaryEmbedding(LlamaConfig(**content)).inv_freq.numpy()
    assert np.allclose(plain / slower.data, theirs, rtol=1e-5)
    assert slower.data.max() == pytest.approx(8.0)


def test_a_tokenizer_that_llama_cpp_does_not_have_is_one_line(texts, tmp_path, capsys):
    folder = folder_of(tmp_path / "folder", texts, shape(), "float32")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("'(?i:s|t", "'(?i:s"))
    capsys.readouterr()  # of transformers
    assert to_gguf.main([str(folder), str(tmp_path / "model.gguf")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"llmhpc: {folder}: its tokenizer is not trained here")
    assert len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert to_gguf.main([str(folder), str(tmp_path / "model.gguf"), "--pre", "qwen2"]) == 0


def test_another_architecture_is_one_line(tmp_path, capsys):
    model = shape(embedding_multiplier=12.0)
    content = hugging_face.config(model, sequence_length=64, dtype="float32")
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert to_gguf.main([str(tmp_path), str(tmp_path / "model.gguf")]) == 2
    error = capsys.readouterr().err
    assert error == f"llmhpc: {tmp_path}: model_type=granite: llama, no other is converted\n"
