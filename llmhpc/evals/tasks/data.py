"""Settings of every task whose rows come from a data set: which one, which part, and what a row is called."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from llmhpc.config import NOT_IDENTITY, at_least
from llmhpc.errors import ConfigError
from llmhpc.evals.items import picked
from llmhpc.evals.material import hub, rowfiles
from llmhpc.evals.material.rows import Row, expression, template
from llmhpc.evals.tasks import EvalTask
from llmhpc.files import sha256 as sha256_of

READ_AT_LAUNCH_BYTES = 5_000_000  # of files; of larger ones only the first rows are looked at
ROWS_AT_LAUNCH = 1000
POOL = 256  # rows that examples are chosen from


class Known(NamedTuple):
    """A row and its names; ``asked`` is what the kind of task makes of it."""

    id: str
    document: str
    group: str
    domain: str
    asked: Any


@dataclass(kw_only=True, slots=True)
class Data(EvalTask):
    """Which rows, and what in a row tells it from others.

    Settings that hold a text are Jinja2 templates of the row's fields ("{{ question }}"), those that hold
    something else are expressions (choices.text): ``templates`` and ``expressions`` name them.
    """

    templates: ClassVar[tuple[str, ...]] = ()
    expressions: ClassVar[tuple[str, ...]] = ("where", "id", "document", "family", "domain")

    hub: str = ""  # a data set of the Hugging Face hub, as in allenai/ai2_arc
    subset: str = ""  # its configuration, as in ARC-Easy
    revision: str = ""  # its commit, 40 hex digits: a branch does not stay the same
    # the same data as a folder, which is read in place of the hub; where it lies does not count, but what it holds
    data_dir: str = field(default="", metadata=NOT_IDENTITY)
    split: str = "test"
    where: str = ""  # true for rows that are asked; empty: all of them
    id: str = "id | default('')"  # without one it is <split>:<line>
    document: str = "document | default('')"  # items of one are not independent
    family: str = "group | default('')"  # those that have their choices in common, likewise
    domain: str = "domain | default('')"  # scores are told for each
    content: str = ""  # what data_dir holds, as a hash; the launcher notes it

    def settle(self) -> None:
        """Note what the files hold, if they are there; a job may start in another folder."""
        if self.data_dir:
            self.data_dir = str(Path(self.data_dir).absolute())
            with contextlib.suppress(ConfigError):  # before_launch says it
                self.content = self.hash()

    def hash(self) -> str:
        """Of all files that are read, 16 hex digits; the folder may be moved. Raises ConfigError if there are none."""
        settings = ("split", "few_shot_split")[: len(self.splits())]
        files = [path for name in settings for path in self.files(Path(self.data_dir), name)]
        return sha256("".join(map(sha256_of, files)).encode()).hexdigest()[:16]

    def understand(self, row: Row) -> Any:
        """What the kind of task makes of a row. Raises ConfigError if that does not work."""
        raise NotImplementedError

    def before_launch(self) -> None:
        """Raise ConfigError if the data is not there, or a row of it is wrong."""
        self.compile()
        if self.hub and not self.data_dir and hub.online():
            hub.check(self.hub, self.revision)
        else:
            self.check(self.folder())

    def compile(self) -> None:
        """Raise ConfigError for a template or an expression that cannot be read."""
        for names, compiled in ((self.templates, template), (self.expressions, expression)):
            for name in names:
                try:
                    compiled(getattr(self, name))
                except ConfigError as error:
                    raise ConfigError(f"{name}={error}") from None

    def check(self, folder: Path) -> list[Known]:
        """The rows of the split, or of a large one the first. Raises ConfigError for a row that is wrong."""
        return self.known(folder, None if self.is_small(folder) else ROWS_AT_LAUNCH)

    def folder(self) -> Path:
        """Where the files are. Raises ConfigError or StageError if they cannot be had."""
        if self.data_dir:
            return Path(self.data_dir)
        if not self.hub:
            raise ConfigError("data_dir is not set: a folder of rows")
        places = [f"{self.subset}/", "data/"] if self.subset else [""]
        patterns = [f"{place}*{split}*" for place in places for split in self.splits()]
        return hub.snapshot(self.hub, self.revision, patterns)

    def splits(self) -> list[str]:
        """All that are read."""
        return [self.split]

    def files(self, folder: Path, setting: str = "split") -> list[Path]:
        """Those of the split that a setting names."""
        return rowfiles.find(folder, self.subset, getattr(self, setting), setting)

    def is_small(self, folder: Path, setting: str = "split") -> bool:
        """Whether all of a split is read at launch."""
        sizes = [file.stat().st_size for file in self.files(folder, setting)]
        return sum(sizes) <= READ_AT_LAUNCH_BYTES

    def rows(self, folder: Path, setting: str = "split") -> Iterator[Row]:
        """The rows of a split, without those that ``where`` leaves out."""
        for place, cells in rowfiles.read(self.files(folder, setting)):
            row = Row(place, cells)
            if not self.where or row.value("where", self.where):
                yield row

    def known(self, folder: Path, most: int | None = None) -> list[Known]:
        """The rows of the split. Raises ConfigError for a wrong one, for none, and for two with one id."""
        found: list[Known] = []
        places: dict[str, rowfiles.Place] = {}
        for row in islice(self.rows(folder), most):
            identity = row.name("id", self.id) or f"{self.split}:{row.place.number}"
            if (first := places.setdefault(identity, row.place)) is not row.place:
                raise row.wrong("id", f"{identity} is also that of {first}")
            names = (
                row.name("document", self.document),
                row.name("family", self.family),
                row.name("domain", self.domain),
            )
            found.append(Known(identity, *names, self.understand(row)))
        if not found:
            which = f" with {self.where}" if self.where else ""
            raise ConfigError(f"split={self.split}: no rows{which} in {folder}")
        return found

    def gather(self, folder: Path) -> list[Known]:
        """The rows that are asked: at most ``items``. Raises ConfigError for a row that is wrong."""
        self.compile()
        if self.content and self.content != self.hash():
            raise ConfigError(
                f"data_dir={self.data_dir}: changed since the launch; launch again, which makes a step of its own"
            )
        return picked(self.known(folder), self.items)


@dataclass(kw_only=True, slots=True)
class Shown(Data):
    """Settings of a task that shows solved examples before each question (few-shot)."""

    shots: int = 0  # examples
    shots_seed: int = 0  # another one shows others
    few_shot_split: str = "train"  # where they are from: of an item's own domain, never the item

    def __post_init__(self) -> None:
        Data.__post_init__(self)
        at_least(self, "shots", 0)
        at_least(self, "shots_seed", 0)

    def splits(self) -> list[str]:
        """All that are read."""
        return [self.split, self.few_shot_split] if self.shots else [self.split]

    def check(self, folder: Path) -> list[Known]:
        """The same; and for too few examples."""
        known = Data.check(self, folder)
        if self.shots and self.is_small(folder, "few_shot_split"):
            pools = self.pools(folder)
            for domain in {one.domain for one in known}:
                self.pool(pools, domain)
        return known

    def pools(self, folder: Path) -> dict[str, list[Any]]:
        """For each domain what examples are chosen from, whatever order and format the files have it in.

        Those whose content has the least hash, in that order; what is there twice counts once.
        """
        pools: dict[str, dict[bytes, Any]] = {}
        for row in self.rows(folder, "few_shot_split") if self.shots else ():
            understood = self.understand(row)
            pool = pools.setdefault(row.name("domain", self.domain), {})
            pool[sha256(repr(understood).encode()).digest()] = understood
            if len(pool) >= 2 * POOL:
                for late in sorted(pool)[POOL:]:
                    del pool[late]
        return {
            domain: [pool[first] for first in sorted(pool)[:POOL]] for domain, pool in pools.items()
        }

    def pool(self, pools: dict[str, list[Any]], domain: str) -> list[Any]:
        """Those of one domain, or those without any. Raises ConfigError if they are too few."""
        found = pools.get(domain) or pools.get("", [])
        least = self.shots + (self.few_shot_split == self.split)  # an item is not shown to itself
        if len(found) < least:
            of_domain = f" of domain {domain}" if domain else ""
            raise ConfigError(
                f"shots={self.shots}: few_shot_split={self.few_shot_split} has {len(found)} different"
                f" rows{of_domain}, {least} or more needed"
            )
        return found
