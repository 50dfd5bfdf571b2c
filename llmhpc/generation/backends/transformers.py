"""A model in this process: a folder that transformers reads, or an export of a training step."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhpc.config import at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.generation import Answer, Sampling, rejected
from llmhpc.generation.backends import Ask, Backend

if TYPE_CHECKING:
    import torch


class Precision(Enum):
    """Type of the weights; auto: as they are saved on a GPU, float32 on a CPU."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(kw_only=True, slots=True)
class Config(Backend):
    """A model and how many prompts it continues at once.

    A model with a chat template is asked in it, any other continues the bare prompt. ``batch_size`` is part of
    what is made: other neighbours in a batch change the last digits of a sum, and so now and then a token.
    """

    kind: str = "transformers"
    model: str = ""  # a folder with config.json, tokenizer and weights; or needs.model
    export: int = 0  # of needs.model: the checkpoint after so many steps; 0: the last
    batch_size: int = 16
    dtype: Precision = field(default=Precision.auto)

    def __post_init__(self) -> None:
        at_least(self, "batch_size", 1)
        at_least(self, "export", 0)

    def model_name(self, folder: Path | None) -> str:
        """The folder's last three parts: train-<fingerprint>/exports/<step> of one's own."""
        return "/".join((folder or Path(self.model).absolute()).parts[-3:])

    def group_size(self) -> int:
        """A batch."""
        return self.batch_size

    def optional_roles(self) -> dict[str, str]:
        """The model can be one's own."""
        return {"model": "a step that writes exports.json and exports/"}

    def check_model(self, has_step: bool) -> None:
        """Raise ConfigError unless there is a folder or a step."""
        if has_step and self.model:
            raise ConfigError(f"model={self.model}: needs.model has one already; only one of them")
        if not has_step and not self.model:
            raise ConfigError(
                "model is not set: its folder, or needs.model, a step that trains one"
            )

    def before_launch(self) -> None:
        """Raise ConfigError if the folder holds no model."""
        if self.model and not (Path(self.model) / "config.json").is_file():
            raise ConfigError(
                f"model={self.model}: no config.json there; a folder that transformers reads"
            )


def open_backend(cfg: Config, sampling: Sampling, folder: Path | None, rank: int) -> Ask:
    """Loads the model; on the GPU if there is one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = folder or Path(cfg.model)
    gpu = torch.cuda.is_available()
    dtype = (
        "auto"
        if cfg.dtype is Precision.auto and gpu
        else getattr(torch, cfg.dtype.name, torch.float32)
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=True, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, local_files_only=True)
    except (OSError, ValueError) as error:
        raise StageError(f"{where}: transformers cannot read it ({error})") from error
    model.to("cuda" if gpu else "cpu").eval()  # type: ignore[arg-type]
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return _Model(model, tokenizer, sampling, cfg.model_name(folder)).answer


class _Model:
    def __init__(self, model: Any, tokenizer: Any, sampling: Sampling, name: str) -> None:
        self.model, self.tokenizer, self.sampling, self.name = model, tokenizer, sampling, name
        self.positions = getattr(model.config, "max_position_embeddings", None) or 1 << 62
        ends = model.generation_config.eos_token_id
        self.ends = set(ends if isinstance(ends, list) else [ends]) - {None}

    def answer(self, group: list[tuple[str, int]]) -> list[Answer]:
        """Continues all prompts in one batch; one that leaves no room for an answer is rejected."""
        encoded = [self._encode(prompt) for prompt, _ in group]
        room = self.positions - self.sampling.max_new_tokens
        fits = [n for n, tokens in enumerate(encoded) if len(tokens) <= room]
        made = (
            self._continue([encoded[n] for n in fits], [group[n][1] for n in fits]) if fits else []
        )
        answers = dict(zip(fits, made, strict=True))
        return [answers.get(n) or self._too_long(tokens) for n, tokens in enumerate(encoded)]

    def _encode(self, prompt: str) -> list[int]:
        if self.tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}]
            return list(
                self.tokenizer.apply_chat_template(
                    messages, add_generation_prompt=True, tokenize=True, return_dict=False
                )
            )
        tokens = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        begin = self.tokenizer.bos_token_id
        return tokens if begin is None else [begin, *tokens]

    def _too_long(self, tokens: list[int]) -> Answer:
        problem = (
            f"a prompt of {len(tokens)} tokens and {self.sampling.max_new_tokens} new ones:"
            f" the model has {self.positions} positions"
        )
        return rejected(problem, self.name, len(tokens))

    def _continue(self, prompts: list[list[int]], seeds: list[int]) -> list[Answer]:
        import torch
        from transformers import LogitsProcessorList

        padded = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(
            self.model.device
        )
        with torch.inference_mode():
            out = self.model.generate(
                **padded,
                max_new_tokens=self.sampling.max_new_tokens,
                do_sample=False,  # the drawing is done below, with a generator for each request
                top_p=None,
                top_k=None,
                temperature=None,
                pad_token_id=self.tokenizer.pad_token_id,
                logits_processor=LogitsProcessorList([_drawing(self.sampling, seeds, padded)]),
            )
        rows = out[:, padded["input_ids"].shape[1] :].tolist()
        return [self._read(row, len(prompt)) for row, prompt in zip(rows, prompts, strict=True)]

    def _read(self, row: list[int], prompt_tokens: int) -> Answer:
        end = next((n for n, token in enumerate(row) if token in self.ends), None)
        tokens = row if end is None else row[:end]
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        reason = "length" if end is None else "stop"
        return Answer(text, reason, prompt_tokens, len(tokens), self.name)


def _drawing(sampling: Sampling, seeds: list[int], padded: Any) -> Any:
    """Leaves each row the one token that its own generator draws.

    One uniform number for each token, looked up in the cumulative distribution: which other requests are in the
    batch, and when they end, changes no draw.
    """
    import torch
    from transformers import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

    begin = padded["input_ids"].shape[1]
    warpers: list[Any] = []
    if sampling.temperature:
        warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_p < 1:
            warpers.append(TopPLogitsWarper(sampling.top_p))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    numbers = torch.stack(
        [torch.rand(sampling.max_new_tokens, generator=g, dtype=torch.float64) for g in generators]
    ).to(padded["input_ids"].device)

    class Drawing(LogitsProcessor):
        def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
            if not sampling.temperature:
                return scores
            for warper in warpers:
                scores = warper(input_ids, scores)
            below = scores.softmax(-1, dtype=torch.float64).cumsum(-1)
            wanted = numbers[:, input_ids.shape[1] - begin, None] * below[:, -1:]
            token = torch.searchsorted(below, wanted, right=True)
            return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)

    return Drawing()
