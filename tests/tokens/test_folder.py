"""A tokenizer of others: its step has what the step of a trained one has."""

import json
from dataclasses import replace

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from llmhpc.errors import ConfigError
from llmhpc.files import files_below, read_json
from llmhpc.jobs import tokenizer as stage
from llmhpc.tokens.encode import open_encoder

BOS, EOS, PAD = SPECIALS = ["<s>", "</s>", "<pad>"]
GPT4 = r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"
TEXT = "It's na\u00efve: 12345 \u4e2d\u6587\n\n  return </s> x"


def bytes_of(texts):
    """As Llama 3 has it: bytes, numbers in threes from the left, and a first token before every text."""
    made = Tokenizer(models.BPE(ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GPT4), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return trained(made, texts, initial_alphabet=alphabet)


def characters_of(texts):
    """As Llama 2 has it: characters, bytes where it lacks one, and a sign for blanks."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token=PAD, fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "\u2581")
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback()])
    return trained(made, texts, bytes_too=True)


def trained(made, texts, *, bytes_too=False, **how):
    fallback = [f"<0x{byte:02X}>" for byte in range(256)] if bytes_too else []
    special = [*(AddedToken(name, special=True) for name in SPECIALS), *fallback]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, show_progress=False, **how
    )
    made.train_from_iterator(texts, trainer)
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][: len(SPECIALS)]
    made = Tokenizer.from_str(json.dumps(content))
    made.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, made.token_to_id(BOS))]
    )
    return made


@pytest.fixture(scope="module")
def inputs(prose, write_documents, tmp_path_factory):
    return {"documents": write_documents(tmp_path_factory.mktemp("pages"), prose(60))}


@pytest.fixture(scope="module", params=[bytes_of, characters_of])
def folder(request, prose, tmp_path_factory):
    """As transformers writes it: the names of tokens are in tokenizer_config.json alone."""
    folder = tmp_path_factory.mktemp("folder")
    request.param(page["text"] for page in prose(60)).save(str(folder / "tokenizer.json"))
    settings = {"bos_token": {"content": BOS}, "eos_token": {"content": EOS}, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return folder


def settings(folder, **changes):
    asked = {"folder": str(folder), "vocab_size": 704, "sample_mb": 1, "heldout_fraction": 0.1}
    return stage.Config(**asked | changes)


def test_its_step_has_what_that_of_a_trained_one_has(folder, inputs, run_stage, tmp_path):
    from transformers import AutoTokenizer

    counts = run_stage(settings(folder), inputs, tmp_path / "taken")
    own = replace(settings(folder), folder="", vocab_size=400)
    run_stage(own, inputs, tmp_path / "trained")
    taken, made = (
        {
            path.relative_to(home).as_posix()
            for path in files_below(home)
            if "work" not in path.parts
        }
        for home in (tmp_path / "taken", tmp_path / "trained")
    )
    assert taken == made
    there = Tokenizer.from_file(str(folder / "tokenizer.json"))
    size = there.get_vocab_size()
    assert counts["vocab_size"] == size <= 700
    inspection = read_json(tmp_path / "taken" / "inspection.json")
    assert sum(inspection["kinds"].values()) == size
    assert inspection["kinds"]["special"] == len(SPECIALS)
    there.encode_special_tokens = True
    encoder = open_encoder(tmp_path / "taken", "auto")
    (ids,) = encoder.encode([TEXT])
    assert ids.tolist() == [
        *there.encode(TEXT, add_special_tokens=False).ids,
        there.token_to_id(EOS),
    ]
    opened = AutoTokenizer.from_pretrained(tmp_path / "taken" / "tokenizer")
    text = TEXT.replace("</s>", "")
    assert opened(text)["input_ids"] == there.encode(text, add_special_tokens=False).ids
    assert opened.decode(opened(text)["input_ids"]) == text
    assert (opened.bos_token, opened.eos_token, opened.pad_token) == (EOS, EOS, PAD)
    assert opened.apply_chat_template([{"content": "hi"}], tokenize=False) == "hi"


def spoilt(folder, copy, change):
    copy.mkdir()
    for path in folder.iterdir():
        content = path.read_text()
        (copy / path.name).write_text(
            change(json.loads(content)) if path.suffix == ".json" else content
        )
    return copy


def without_eos(content):
    return json.dumps({key: value for key, value in content.items() if key != "eos_token"})


def with_plain_eos(content):
    for token in content.get("added_tokens", []):
        token["special"] = token["content"] != EOS
    return json.dumps(content)


@pytest.mark.parametrize(
    ("changes", "change", "message"),
    [
        ({"vocab_size": 300}, json.dumps, "vocab_size=300: .* or more, as .*copy has"),
        ({"special_tokens": ["<|user|>"]}, json.dumps, r"special_tokens: '<\|user\|>' is not one of"),
        ({}, without_eos, "folder=.*copy: no eos_token in its tokenizer_config.json"),
        ({}, with_plain_eos, "folder=.*copy: eos_token '</s>' is not special in its tokenizer.json"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_does_not_fit_is_one_line(changes, change, message, folder, tmp_path):
    copy = spoilt(folder, tmp_path / "copy", change)
    settings(folder).before_launch()
    with pytest.raises(ConfigError, match=message) as caught:
        settings(copy, **changes).before_launch()
    assert "\n" not in str(caught.value)


def test_what_is_trained_is_not_asked_of_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="digits=up_to_999: not with folder"):
        settings(tmp_path, digits=stage.Digits.up_to_999)
    with pytest.raises(ConfigError, match=f"folder={tmp_path}: no tokenizer.json there"):
        settings(tmp_path).before_launch()
