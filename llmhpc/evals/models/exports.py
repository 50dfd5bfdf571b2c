"""The checkpoints of a training step as Hugging Face folders: found, checked and loaded."""

import functools
import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmhpc.errors import ArtifactError, StageError
from llmhpc.evals.models import engine
from llmhpc.evals.models.deferred import Deferred
from llmhpc.files import read_json, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NEEDED = ("config.json", "tokenizer.json")
INDEX = "model.safetensors.index.json"  # of weights in several files


class Export(NamedTuple):
    """One exported checkpoint."""

    step: int
    tokens: int  # seen in training until then
    name: str  # its path as the training step wrote it
    folder: Path


class Checkpoint(NamedTuple):
    """An export in memory."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    max_length: int  # positions


def find_exports(train: Path) -> list[Export]:
    """The exports that ``train``/exports.json lists, by rising step.

    Raises:
        ArtifactError: no list, an empty one, or an export without one of its files, or with one that was cut.
    """
    listed: list[dict[str, Any]] | None = read_json(train / "exports.json")
    if not listed:
        raise ArtifactError(f"{train / 'exports.json'}: lists no exported checkpoint")
    exports = [Export(e["step"], e["tokens"], e["path"], train / e["path"]) for e in listed]
    for export in exports:
        for path in sorted(export.folder.glob("*.json")):
            _check_json(path)
        needed = (*NEEDED, *_parts(export.folder))
        if missing := [name for name in needed if not (export.folder / name).is_file()]:
            raise ArtifactError(
                f"{export.folder}: no {', '.join(missing)}; the export is not whole"
            )
        for path in sorted(export.folder.glob("*.safetensors")):
            _check_size(path)
    return sorted(exports)


def _parts(folder: Path) -> set[str]:
    """The names of the files of weights."""
    index = read_json(folder / INDEX)
    return set(index["weight_map"].values()) if index else {"model.safetensors"}


def _check_json(path: Path) -> None:
    """Raise ArtifactError if a file was cut."""
    try:
        json.loads(path.read_bytes())
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}; the export is not whole") from None


def _check_size(path: Path) -> None:
    """Raise ArtifactError if a file of weights is not as long as its head says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np"):
            pass
    except SafetensorError as error:
        raise ArtifactError(f"{path}: {error}; the export is not whole") from None


def device() -> str:
    """Where models are loaded: "cuda" or "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load(export: Export, tp: int = 1) -> Checkpoint:
    """The model in evaluation mode: on the GPU in the export's own type, else on CPU in float32.

    Args:
        export: the checkpoint.
        tp: processes that hold the model together, each a part of every matrix (transformers' tensor
            parallelism): those of the world of torch.distributed, which was joined before.

    Raises:
        ArtifactError: weights are missing, or the export does not say how long its contexts are, or how a document begins.
        StageError: the model cannot be cut in ``tp`` parts.
    """
    import torch

    with engine.first_import("transformers.modeling_utils"), Deferred("scipy"):
        import transformers.modeling_utils  # noqa: F401, whose losses for pictures ask for scipy
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    on = device()
    settings: dict[str, Any] = {"dtype": torch.float32 if on == "cpu" else "auto"}
    if tp > 1:
        from transformers.distributed import DistributedConfig

        _check_cut(AutoConfig.from_pretrained(export.folder, local_files_only=True), tp)
        settings["distributed_config"] = DistributedConfig(tp_size=tp)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        export.folder, local_files_only=True, output_loading_info=True, **settings
    )
    model: PreTrainedModel = loaded[0]
    _check_loaded(export.folder, loaded[1])
    tokenizer = AutoTokenizer.from_pretrained(export.folder, local_files_only=True)
    max_length = getattr(model.config, "max_position_embeddings", None)
    if not max_length:
        raise ArtifactError(f"{export.folder}/config.json: no max_position_embeddings")
    if tokenizer.bos_token_id is None:
        raise ArtifactError(
            f"{export.folder}: the tokenizer has no bos token, which begins documents"
        )
    if tp == 1:
        model.to(on)  # type: ignore[arg-type]  # transformers wraps it without its signature
    # the rest is advice for talking, such as a penalty for repetition
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    return Checkpoint(model.eval(), tokenizer, max_length)


def _check_loaded(folder: Path, found: dict[str, Any]) -> None:
    """transformers would go on with chance weights."""
    for wrong in ("missing_keys", "mismatched_keys"):
        if names := sorted(map(str, found[wrong])):
            some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            raise ArtifactError(f"{folder}: the weights have {wrong.replace('_', ' ')}, {some}")


def _check_cut(config: Any, tp: int) -> None:
    """transformers would fail in the middle of a forward pass."""
    if not config.base_model_tp_plan:
        raise StageError(f"tp={tp}: transformers cannot cut a {config.model_type} model; 1")
    heads = config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or heads
    if heads % tp:
        raise StageError(f"tp={tp}: a divisor of {heads}, the model's key and value heads")


def content_hash(folder: Path) -> str:
    """16 hex digits over weights, shape and tokenizer; a file is read once in a process, as long as it stays as it is."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    every = "-".join(f"{path.name} {_hash(path, path.stat().st_mtime_ns)}" for path in files)
    return hashlib.sha256(every.encode()).hexdigest()[:16]


@functools.cache
def _hash(path: Path, changed_ns: int) -> str:
    return sha256(path)


def link(folder: Path, to: Path) -> None:
    """The files of an export in another folder as well: hard links where the file system allows, else copies."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = to / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(path)
        except OSError:  # another file system, or one without hard links
            shutil.copy2(path, target)
