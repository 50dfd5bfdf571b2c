"""Four-way "which text continues this one", made from the held-out documents themselves."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmhpc.config import at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.evals.items import Asked, Form, Item
from llmhpc.evals.material import fours
from llmhpc.evals.material.fours import Stretch
from llmhpc.evals.material.heldout import Document, read_documents
from llmhpc.evals.material.surprise import Surprise
from llmhpc.evals.tasks import EvalTask, Material

CANDIDATES = 8  # for each item: stretches among which those of one question are chosen
BOUNDARY = re.compile(r"\s*\n\s*|(?<=[.!?])\s+")  # ends of lines and of sentences


@dataclass(kw_only=True, slots=True)
class Config(EvalTask):
    """How much is asked."""

    kind: str = "continuation"
    items: int = 250  # at most: 250 give a standard error of about 0.03
    items_min: int = 40  # with fewer the standard error is above 0.07, and the step fails
    context_bytes: int = 256  # text shown of a question, at least; at most twice that
    continuation_bytes: int = 64  # text of a choice, likewise
    metric: str = "acc_norm_pmi_byte"

    def __post_init__(self) -> None:
        EvalTask.__post_init__(self)
        for name in ("items_min", "context_bytes", "continuation_bytes"):
            at_least(self, name, 1)
        if self.items_min > self.items:
            raise ConfigError(f"items_min={self.items_min}: items={self.items} or fewer")

    def check_length(self, positions: int) -> None:
        """Raise ConfigError if a choice could be longer than the model's positions: a byte can be a token."""
        if 2 * self.continuation_bytes > positions:
            raise ConfigError(
                f"continuation_bytes={self.continuation_bytes}: {positions // 2} or less,"
                f" half of the model's positions (schedule.sequence_length={positions})"
            )


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Questions of the held-out documents."""
    return [Asked(name, Form.cloze, make_items(cfg, read_documents(material.heldout)), cfg.metric)]


def make_items(cfg: Config, documents: list[Document]) -> list[Item]:
    """Four-way items: the documents alone decide them, not their order, the model or the tokenizer.

    Four stretches of four documents make four items: each asks which of the four continuations follows its
    own context. So a model that judges a text without its context is right in one of four, whatever it
    prefers: what is above chance comes from the context. The four are about equally hard to predict
    (``Surprise``), or a model would take the easiest text whatever stands before it: between texts the
    likelihood differs ten times as much as a context adds. Documents take turns, as far as that allows. No
    continuation is found in another document of its four. All choices of an item begin with the same
    whitespace, so that layout gives nothing away. The right answer stands equally often at each place.

    Returns:
        At most ``cfg.items`` items; those of one ``group`` have the same choices.

    Raises:
        StageError: fewer than ``cfg.items_min`` items are possible.
    """
    surprise = Surprise(documents)
    windows = [
        window
        for document in documents
        for window in _windows(document, cfg.context_bytes, cfg.continuation_bytes)
    ]
    candidates = fours.in_turns(windows)[: CANDIDATES * cfg.items]
    hardness = {w.id: surprise(w.document, w.gap + w.answer) for w in candidates}
    texts = {document.id: document.text for document in documents}

    def apart(one: Stretch, other: Stretch) -> bool:
        return one.answer not in texts[other.document] and other.answer not in texts[one.document]

    items = fours.items(candidates, cfg.items, lambda window: hardness[window.id], apart)
    if len(items) < cfg.items_min:
        raise StageError(
            f"continuation: {len(items)} items possible from {len(documents)} held-out documents, "
            f"{cfg.items_min} needed; hold out more documents, or set a smaller items_min"
        )
    return items


def _windows(document: Document, context_bytes: int, continuation_bytes: int) -> Iterator[Stretch]:
    """Stretches of one document that do not overlap, cut at ends of lines or sentences.

    A context has at least ``context_bytes``, a continuation with the whitespace before it at least
    ``continuation_bytes``; both are at most twice that, else the stretch is left out.
    """
    text = document.text
    ends = [(match.start(), match.end()) for match in BOUNDARY.finditer(text)]
    start, middle = 0, None  # middle: the (end, end of whitespace) between context and continuation
    for end, after in ends:
        if middle is None:
            size = _bytes(text[start:end])
            if size > 2 * context_bytes:
                start = after
            elif size >= context_bytes:
                middle = (end, after)
            continue
        size = _bytes(text[middle[0] : end])
        if size < continuation_bytes:
            continue
        if size <= 2 * continuation_bytes:
            yield Stretch(
                f"{document.id}#{start}",
                document.id,
                text[start : middle[0]],
                text[middle[0] : middle[1]],
                text[middle[1] : end],
            )
        start, middle = after, None


def _bytes(text: str) -> int:
    return len(text.encode())
