"""A tokenizer that is there already: the folder of a model, checked, and written as one that is trained here.

The tokenizers library is not imported by what checks: the launcher looks here, too.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhpc.errors import ConfigError
from llmhpc.files import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER, CONFIG, NAMES = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
CHAT = "chat_template"  # a file with the ending .jinja, or a key of CONFIG
EOS, PAD = "eos_token", "pad_token"


def tokens(content: dict[str, Any]) -> dict[int, str]:
    """The token of each id, of the content of a tokenizer.json."""
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):  # of a unigram model: pairs of token and score
        vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
    found = {number: token for token, number in vocabulary.items()}
    return found | {token["id"]: token["content"] for token in content.get("added_tokens", [])}


def named_token(folder: Path, name: str) -> str | None:
    """The token that a folder calls ``name``, like eos_token."""
    for file in (NAMES, CONFIG):
        if token := (read_json(folder / file) or {}).get(name):
            return token["content"] if isinstance(token, dict) else token
    return None


def check(folder: Path, vocab_size: int, special_tokens: Sequence[str]) -> None:
    """Raise ConfigError unless ``folder`` has a tokenizer of at most ``vocab_size`` with an end of text and these tokens."""
    content = read_json(folder / TOKENIZER)
    if content is None:
        raise ConfigError(
            f"folder={folder}: no {TOKENIZER} there; a folder that transformers opens"
        )
    if (size := max(tokens(content)) + 1) > vocab_size:
        raise ConfigError(f"vocab_size={vocab_size}: {size} or more, as {folder} has")
    special = [token["content"] for token in content["added_tokens"] if token["special"]]
    if (eos := named_token(folder, EOS)) is None:
        raise ConfigError(f"folder={folder}: no {EOS} in its {CONFIG}; the token that ends texts")
    if eos not in special:  # a text that spells it out would end there
        raise ConfigError(f"folder={folder}: {EOS} {eos!r} is not special in its {TOKENIZER}")
    if missing := [name for name in special_tokens if name not in special]:
        raise ConfigError(f"special_tokens: {missing[0]!r} is not one of {folder}'s; leave it out")


def read(folder: Path) -> "Tokenizer":
    """The tokenizer of a folder, adding nothing to a text: documents are ended by what tokenizes them."""
    from tokenizers import Tokenizer

    content = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    nothing = dict.fromkeys(("post_processor", "truncation", "padding"))
    return Tokenizer.from_str(json.dumps(content | nothing))


def save(folder: Path, tokenizer: "Tokenizer", out: Path) -> None:
    """Write ``tokenizer`` and the names of its tokens in ``folder``. As in training, a text begins behind an eos."""
    from llmhpc.tokens.bpe import write_folder

    eos, pad = (named_token(folder, name) or "" for name in (EOS, PAD))
    named = {"bos_token": eos, EOS: eos} | ({PAD: pad} if pad else {})
    file, settings = folder / f"{CHAT}.jinja", read_json(folder / CONFIG) or {}
    chat = file.read_text(encoding="utf-8") if file.exists() else settings.get(CHAT)
    write_folder(tokenizer.to_str(pretty=True), named, out, **({CHAT: chat} if chat else {}))
