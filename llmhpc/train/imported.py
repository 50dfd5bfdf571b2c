"""The weights of a Hugging Face folder, read in any cut: each process takes what it holds, and no more."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from llmhpc.errors import ArtifactError
from llmhpc.files import read_json
from llmhpc.models import Model, Rows, hugging_face
from llmhpc.train.export import WEIGHTS_INDEX
from llmhpc.train.pieces import Cut

KINDS = ("weight", "master")  # weights in the training's precision, and in full beside it
NOT_TRAINED = ".rotary_emb.inv_freq"  # written by old versions of transformers
OUTPUT = "lm_head.weight"  # a copy of the embedding where both are tied


class Imported:
    """Stands for a checkpoint's ``Shards`` that has weights alone."""

    def __init__(self, folder: Path, model: Model) -> None:
        """Raises ArtifactError unless ``folder`` has all tensors of ``model`` and no other."""
        self.folder = folder
        self.parts: dict[str, list[Rows]] = {}
        for part in hugging_face(model.kind).rows(model):
            self.parts.setdefault(part.ours, []).append(part)
        self.files = self._files()
        wanted = {part.theirs for parts in self.parts.values() for part in parts}
        if missing := sorted(wanted - self.files.keys()):
            raise ArtifactError(f"{folder} has no tensor {missing[0]}")
        others = [name for name in self.files if name not in wanted and name != OUTPUT]
        if others := [name for name in others if not name.endswith(NOT_TRAINED)]:
            raise ArtifactError(f"{folder} has a tensor {others[0]}, {model.kind} has none")

    def _files(self) -> dict[str, Path]:
        """Where each tensor is."""
        if index := read_json(self.folder / WEIGHTS_INDEX):
            return {name: self.folder / file for name, file in index["weight_map"].items()}
        found: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as opened:
                found |= dict.fromkeys(opened.keys(), path)
        if not found:
            raise ArtifactError(f"{self.folder}: no *.safetensors; other formats are not read")
        return found

    def __contains__(self, key: str) -> bool:
        kind, _, name = key.partition("/")
        return kind in KINDS and name in self.parts

    def whole(self, theirs: str) -> torch.Tensor:
        """A tensor by the folder's name for it, as it is there."""
        with safe_open(self.files[theirs], framework="pt") as opened:
            return opened.get_tensor(theirs)

    def row(self, key: str, cut: Cut) -> torch.Tensor:
        """The row of numbers that ``cut`` says, in float32. Raises ArtifactError where a tensor has another shape."""
        local = torch.empty(cut.local, dtype=torch.float32)
        for part in self.parts[key.partition("/")[2]]:
            with safe_open(self.files[part.theirs], framework="pt") as opened:
                theirs = opened.get_slice(part.theirs)
                shape, right = theirs.get_shape(), [part.stop - part.start, *cut.shape[1:]]
                if shape != right:
                    raise ArtifactError(f"{self.folder}: {part.theirs} is {shape}, not {right}")
                for here, there in _places(part, cut):
                    local[here] = theirs[there].float()
        return local.flatten()[cut.start : cut.stop]


def _places(part: Rows, cut: Cut) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Where what a process holds of ``part`` lies in its own tensor, and in that of the folder."""
    for here, there in cut.blocks:
        first, last = max(part.start, there[0][0]), min(part.stop, there[0][1])
        if first < last:
            begin = here[0][0] + first - there[0][0]
            yield (
                (slice(begin, begin + last - first), *(slice(*both) for both in here[1:])),
                (
                    slice(first - part.start, last - part.start),
                    *(slice(*both) for both in there[1:]),
                ),
            )
