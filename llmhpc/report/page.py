"""Puts the page together: the sections that have something to say, in one file without outside parts."""

from collections.abc import Callable
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from llmhpc.report import (
    artifacts,
    calibration,
    documents,
    evaluation,
    forms,
    funnel,
    generation,
    headline,
    ledger,
    numbers,
    signal,
    training,
    verdict,
    vocabulary,
    work,
)
from llmhpc.report.section import Limits, Section
from llmhpc.report.upstream import History

Progress = Callable[[float, float, str], None]  # done, total, unit


# In the order of the page. A section is a module with TITLE and values(history, limits), which returns
# what its template shows, or None where the run has nothing of that kind.
SECTIONS = (
    headline,
    verdict,
    signal,
    work,
    funnel,
    generation,
    ledger,
    documents,
    vocabulary,
    training,
    evaluation,
    forms,
    calibration,
    artifacts,
)


def render(
    history: History, examples: int, example_characters: int, progress: Progress = lambda *_: None
) -> str:
    """The page's HTML. Everything from outside is escaped; the same history gives the same text."""
    limits = Limits(examples=examples, example_characters=example_characters)
    sections = []
    for done, module in enumerate(SECTIONS):
        progress(done, len(SECTIONS), "sections")
        values = module.values(history, limits)
        if values is not None:
            name = module.__name__.rpartition(".")[2]
            sections.append(Section(name=name, title=module.TITLE, values=values))
    progress(len(SECTIONS), len(SECTIONS), "sections")
    style = resources.files("llmhpc.report").joinpath("page.css").read_text(encoding="utf-8")
    template = _environment().get_template("page.html")
    return template.render(history=history, sections=sections, style=Markup(style))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("llmhpc.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("count", "size", "duration", "number", "signed", "share", "moment"):
        environment.filters[name] = getattr(numbers, name)
    return environment
