"""Stage generate: synthetic documents, by a server that speaks OpenAI's API or by a model in this process."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmhpc.config import Footprint, Phase, Stage, at_least, fraction
from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.files import read_json
from llmhpc.generation import Sampling
from llmhpc.generation.backends import Backend
from llmhpc.generation.recipes import DOCUMENTS, Recipe
from llmhpc.task import Task

MODEL = "model"
CHARACTERS_PER_TOKEN = 4  # of English, about
INFLATED = 3  # times the compressed size, about


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """What is asked (recipe), of whom (backend), and what of the answers is kept.

    Every answer is kept on disk when it comes: a task that was cut asks only for the rest.
    """

    kind: str = "generate"
    recipe: Recipe = field(default_factory=Recipe)
    backend: Backend = field(default_factory=Backend)
    sampling: Sampling = field(default_factory=Sampling)
    request_seed: int = 0  # not the run's: data does not change with the seed of training
    keep_truncated: bool = False  # answers that max_new_tokens cut
    refusals: list[str] = field(
        default_factory=list
    )  # regular expressions: how an answer that declines begins
    unanswered_share: float = (
        0.0  # of a rank's requests that may stay without answer after all retries
    )
    diversity_documents: int = 5_000  # that the diversity report looks at; held in memory

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        at_least(self, "diversity_documents", 2)
        fraction(self, "unanswered_share")
        for pattern in self.refusals:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(
                    f"refusals: {pattern!r} is no regular expression ({error})"
                ) from None

    def phases(self) -> list[Phase]:
        """Ranks share the requests; one task measures how diverse the answers are."""
        return [Phase("answers", self.ranks), Phase("diversity", 1)]

    def optional_roles(self) -> dict[str, str]:
        """Texts to start from, and a model of one's own."""
        return {DOCUMENTS: "a step that writes documents/", **self.backend.optional_roles()}

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError unless recipe and backend have what they need, and use what there is."""
        for part, check, role in (
            ("recipe", self.recipe.check_documents, DOCUMENTS),
            ("backend", self.backend.check_model, MODEL),
        ):
            try:
                check(role in played_by)
            except ConfigError as error:
                where = "" if str(error).startswith("needs") else f"{part}."
                raise ConfigError(f"{where}{error}") from None

    def before_launch(self) -> None:
        """Raise ConfigError if something the backend needs is not there."""
        try:
            self.backend.before_launch()
        except ConfigError as error:
            raise ConfigError(f"backend.{error}") from None

    def outline(self, inputs: dict[str, Path]) -> str:
        """Requests and tokens: where somebody is paid for them, what it will cost."""
        manifest = read_json(inputs[DOCUMENTS] / "manifest.json") if DOCUMENTS in inputs else None
        made = manifest or {"counts": {}, "files": {}}
        shards = [
            file["bytes"] for name, file in made["files"].items() if name.startswith(DOCUMENTS)
        ]
        documents = made["counts"].get("documents", 0)
        text = made["counts"].get("text_bytes", INFLATED * sum(shards))
        requests = self.recipe.requests(documents, text)
        if not requests:
            return "how many requests is known once its documents are there"
        read = requests * self.recipe.prompt_characters() // CHARACTERS_PER_TOKEN
        written = requests * self.sampling.max_new_tokens
        return (
            f"about {requests:,} requests with {read:,} tokens, and {written:,} of answers at most"
        )

    def will_write(self, input_bytes: int) -> Footprint:
        """Prompts and answers, as they come and compressed."""
        each = self.recipe.prompt_characters() + CHARACTERS_PER_TOKEN * self.sampling.max_new_tokens
        return Footprint(2 * each * self.recipe.requests(0, INFLATED * input_bytes), 3 * self.ranks)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write documents/<rank>.jsonl.zst, removed/<reason>/<rank>.jsonl.zst and diversity.json."""
    if task.phase == "diversity":
        from llmhpc.files import write_json
        from llmhpc.generation import diversity

        found = diversity.report(task.home, cfg.diversity_documents, task.progress)
        write_json(out / "diversity.json", found)
        return {}
    from llmhpc.generation.answers import Asking, answer_all
    from llmhpc.generation.backends import open_backend
    from llmhpc.generation.recipes import parts, share_of

    folder = _model_folder(cfg, inputs)
    shared = parts(cfg.recipe, inputs.get(DOCUMENTS))
    asking = Asking(
        groups=lambda: share_of(shared, cfg.backend.group_size(), task.rank, task.ranks),
        model=cfg.backend.model_name(folder),
        sampling=cfg.sampling,
        seed=cfg.request_seed,
        width=cfg.backend.width(),
        unanswered_share=cfg.unanswered_share,
        keep_truncated=cfg.keep_truncated,
        refusals=cfg.refusals,
    )
    return answer_all(
        asking, lambda: open_backend(cfg.backend, cfg.sampling, folder, task.rank), out, task
    )


def _model_folder(cfg: Config, inputs: dict[str, Path]) -> Path | None:
    """The export of the step that plays the model."""
    if MODEL not in inputs:
        return None
    from llmhpc.evals.models.exports import find_exports

    exports = {export.step: export.folder for export in find_exports(inputs[MODEL])}
    wanted = getattr(cfg.backend, "export", 0) or max(exports)
    if wanted not in exports:
        there = ", ".join(map(str, exports))
        raise ArtifactError(f"backend.export={wanted}: {inputs[MODEL]} has {there}")
    return exports[wanted]
