"""An exported folder as a GGUF file for llama.cpp: python -m llmhpc.to_gguf FOLDER OUT.gguf [--pre NAME].

For models whose tokenizer was trained here: llama.cpp's own converter knows those of others by their hashes.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llmhpc.errors import ArtifactError, ConfigError, denied_in_one_line
from llmhpc.files import read_json

if TYPE_CHECKING:
    import numpy as np
    import torch
    from gguf import GGUFWriter

USAGE = 2
# llama.cpp's name for a pattern of pieces like that of llmhpc.tokens.bpe with digits=split. The only difference: there
# 's and its like are cut off in front of letters, too, as in 'static.
PRE = {"split": "qwen35"}


@denied_in_one_line
def main(arguments: list[str]) -> int:
    """Exit status: 0, 2 if the call is wrong or the folder is not whole."""
    asked = _parser().parse_args(arguments)
    try:
        convert(asked.folder, asked.out, asked.pre)
    except (ConfigError, ArtifactError) as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return USAGE
    print(f"{asked.out}: {asked.out.stat().st_size / 1e6:,.1f} MB")
    return 0


def convert(folder: Path, out: Path, pre: str | None = None) -> None:
    """Write ``out``, with one tensor in memory at a time. Raises ConfigError and ArtifactError before it writes."""
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise ConfigError("the package gguf is not there; pip install gguf") from None
    from llmhpc.models.llama import Config, hugging_face
    from llmhpc.models.llama import gguf as names
    from llmhpc.train.imported import Imported
    from llmhpc.train.pretrained import CONFIG, settings

    if (config := read_json(folder / CONFIG)) is None:
        raise ConfigError(f"{folder}: no {CONFIG} there; a folder that training exported")
    if (kind := config.get("model_type")) != names.ARCHITECTURE:  # as with multipliers
        raise ConfigError(
            f"{folder}: model_type={kind}: {names.ARCHITECTURE}, no other is converted"
        )
    model = cast(Config, settings(folder, config, names.ARCHITECTURE))
    weights = Imported(folder, model)
    pre = pre or _pre(folder)
    partial = out.with_name(f".{out.name}.partial")
    writer = GGUFWriter(partial, names.ARCHITECTURE)
    writer.add_name(folder.absolute().name)
    writer.add_context_length(config["max_position_embeddings"])
    for key, value in names.metadata(model).items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{names.ARCHITECTURE}.{key}", value)
    _add_vocabulary(writer, folder, config, pre)
    parts = [part.theirs for part in hugging_face.rows(model)]
    slowdown = names.slowdown(model)
    if slowdown is not None:
        _announce(writer, "rope_freqs.weight", slowdown)
    for theirs in parts:
        _announce(writer, names.name(theirs), weights.whole(theirs))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if slowdown is not None:
        writer.write_tensor_data(_array(slowdown))
    for theirs in parts:
        numbers = names.reordered(model, theirs, weights.whole(theirs))
        writer.write_tensor_data(_array(numbers))
    writer.close()
    partial.replace(out)


def _pre(folder: Path) -> str:
    """llama.cpp's name for what the folder's tokenizer does before it merges."""
    from llmhpc.tokens.folder import read
    from llmhpc.tokens.ids import known_digits

    tokenizer = read(folder)
    tokenizer.encode_special_tokens = True
    if (digits := known_digits(tokenizer)) in PRE:
        return PRE[digits]
    why = f"digits={digits}" if digits else "not trained here"
    raise ConfigError(
        f"{folder}: its tokenizer is {why}, llama.cpp has no such pre-tokenizer or its own converter knows it;"
        " --pre names one that comes near"
    )


def _add_vocabulary(writer: "GGUFWriter", folder: Path, config: dict[str, Any], pre: str) -> None:
    from gguf import TokenType

    from llmhpc.tokens.folder import CHAT, TOKENIZER, tokens

    content = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    names, size = tokens(content), config["vocab_size"]
    added = {token["id"]: token["special"] for token in content["added_tokens"]}
    kinds = {True: TokenType.CONTROL, False: TokenType.USER_DEFINED, None: TokenType.NORMAL}
    writer.add_tokenizer_model("gpt2")  # byte-level BPE
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([names.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types(
        [kinds[added.get(n)] if n in names else TokenType.UNUSED for n in range(size)]
    )
    merges = content["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    for kind, add in {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "pad": writer.add_pad_token_id,
    }.items():
        if (number := config.get(f"{kind}_token_id")) is not None:
            add(number)
    writer.add_add_bos_token(True)  # as in training, where a text begins behind the end of another
    if chat := (read_json(folder / "tokenizer_config.json") or {}).get(CHAT):
        writer.add_chat_template(chat)


def _announce(writer: "GGUFWriter", name: str, numbers: "torch.Tensor") -> None:
    from gguf import GGMLQuantizationType

    array = _array(numbers)
    kind = {4: GGMLQuantizationType.F32, 2: GGMLQuantizationType.BF16}
    raw = kind[array.nbytes // numbers.numel()]
    writer.add_tensor_info(name, array.shape, array.dtype, array.nbytes, raw)


def _array(numbers: "torch.Tensor") -> "np.ndarray":
    """As bytes what numpy has no type for; vectors in float32, as llama.cpp has them."""
    import torch

    if numbers.dim() == 1 or numbers.dtype != torch.bfloat16:
        return numbers.float().contiguous().numpy()
    return numbers.contiguous().view(torch.uint8).numpy()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llmhpc.to_gguf", description=__doc__)
    parser.add_argument("folder", type=Path, help="as in runs/train-…/exports/000400")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--pre", help="llama.cpp's pre-tokenizer, if another than qwen35 is wanted")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
