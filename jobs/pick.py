"""The best checkpoint of a training, as the only export of a step that later stages take as their model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Footprint, Stage, at_least
from llmhpc.errors import ConfigError
from llmhpc.files import read_json, write_json
from llmhpc.task import Task

INDEX = "exports.json"


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """What is compared: the mean score of the tasks that tell anything, over a few checkpoints."""

    roles: ClassVar[dict[str, str]] = {
        "model": "a step that writes exports.json and exports/",
        "scores": "an evaluate step of that model",
    }

    kind: str = "pick"
    window: int = 3  # checkpoints over which scores are averaged; 1: each by itself

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        at_least(self, "window", 1)
        if self.window % 2 == 0:
            raise ConfigError(f"window={self.window}: an odd number, as many before as behind")
        if self.ranks != 1:
            raise ConfigError(f"ranks={self.ranks}: 1, one checkpoint is picked")

    def optional_roles(self) -> dict[str, str]:
        """What knows which tasks count."""
        return {"verdict": "a verdict step; without it the scores alone say which tasks count"}

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError if the scores are those of another model."""
        judged, model = played_by["scores"].needs.get("model"), self.needs.get("model")
        if judged is not None and judged != model:
            raise ConfigError(
                f"needs.scores={self.needs['scores']}: it evaluates {judged}, not needs.model={model}"
            )

    def will_write(self, input_bytes: int) -> Footprint:
        """At most a copy of one of several exports."""
        return Footprint(input_bytes, 14)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write exports.json with one entry, that export, pick.json with the reason and the curve, and what a model card takes."""
    from llmhpc.errors import ArtifactError
    from llmhpc.evals.judging import picking, runs, signal, tables
    from llmhpc.evals.models import exports

    scored = runs.read(inputs["scores"], "", 0)
    if "verdict" in inputs:
        judged = read_json(inputs["verdict"] / "signal.json")
    else:
        judged = signal.signals([scored])
    picked = picking.pick(scored.scores, signal.in_mean(judged), cfg.window)
    there = {export.step: export for export in exports.find_exports(inputs["model"])}
    if picked.step not in there:
        raise ArtifactError(f"{inputs['model'] / INDEX}: no export of step {picked.step}")
    export = there[picked.step]
    exports.link(export.folder, out / export.name)
    write_json(out / INDEX, [{"step": export.step, "tokens": export.tokens, "path": export.name}])
    write_json(out / "pick.json", picked._asdict())
    tables.write(out, scored.scores, task.home.name, picked.step)
    task.progress(1, 1, "checkpoint", picked.reason)
    return {"step": picked.step, "tokens": picked.tokens, "score": picked.score}
