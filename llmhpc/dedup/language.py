"""Whether the rules that split a language's words are on this machine, found without importing anything."""

import csv
import importlib.util
from pathlib import Path

from llmhpc.errors import ConfigError

PACKAGES = {  # what datatrove's tokenizers import (datatrove/utils/word_tokenizers.py)
    "SpaCyTokenizer": "spacy",
    "StanzaTokenizer": "stanza",
    "ThaiTokenizer": "pythainlp",
    "IndicNLPTokenizer": "indicnlp",
    "KiwiTokenizer": "kiwipiepy",
    "KhmerTokenizer": "khmernltk",
    "LaoTokenizer": "laonlp",
    "TibetanTokenizer": "botok",
    "BurmeseTokenizer": "pyidaungsu",
}
FOR_SPACY = {"vi": "pyvi", "zh": "jieba", "ja": "fugashi"}  # a language's own package


def check_language(language: str) -> None:
    """Raise ConfigError unless datatrove has a word tokenizer for ``language`` and its packages are here."""
    if language not in (known := tokenizers()):
        raise ConfigError(
            f"language={language}: no words known; ISO 639-1 or 639-3, as in en or deu"
        )
    kind, code = known[language]
    wanted = [PACKAGES.get(kind), FOR_SPACY.get(code) if kind == "SpaCyTokenizer" else None]
    if missing := [name for name in wanted if name and importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"language={language}: the package {missing[0]} splits its words; install it"
        )


def tokenizers() -> dict[str, tuple[str, str]]:
    """language -> datatrove's tokenizer and its code for the language, as load_tokenizer_assignments has them:
    of several scripts the last one stands for the language."""
    found: dict[str, tuple[str, str]] = {}
    with (_folder("datatrove") / "assets" / "tokenizer_assignment.csv").open() as file:
        for row in filter(lambda row: row["type"], csv.DictReader(file)):
            for name in filter(None, (row["code_3"], row["code_1"])):
                if (scripted := f"{name}_{row['script']}") not in found:
                    found[scripted] = found[name] = (row["type"], row["tok_code"])
    return found


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else Path(package)
