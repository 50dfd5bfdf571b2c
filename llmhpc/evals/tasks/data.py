"""Settings of every task whose rows come from a data set: which one, which part, and what a row is called."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.evals import hub, rowfiles
from llmhpc.evals.rows import Row, expression, template
from llmhpc.evals.tasks import EvalTask

READ_AT_LAUNCH_BYTES = 20_000_000  # of files; of larger ones only the first rows are looked at
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
    revision: str = (
        ""  # its commit, 40 hex digits: a branch would not give the same questions again
    )
    data_dir: str = ""  # the same data as a folder, which is read in place of the hub
    split: str = "test"
    where: str = ""  # true for rows that are asked; empty: all of them
    id: str = "id | default('')"  # without one it is <split>:<line>
    document: str = "document | default('')"  # items of one are not independent
    family: str = "group | default('')"  # those that have their choices in common, likewise
    domain: str = "domain | default('')"  # scores are told for each

    def understand(self, row: Row) -> Any:
        """What the kind of task makes of a row. Raises ConfigError if that does not work."""
        raise NotImplementedError

    def before_launch(self) -> None:
        """Raise ConfigError if the data is not there, or a row of it is wrong."""
        for names, compiled in ((self.templates, template), (self.expressions, expression)):
            for name in names:
                try:
                    if source := getattr(self, name):
                        compiled(source)
                except ConfigError as error:
                    raise ConfigError(f"{name}={error}") from None
        if self.data_dir or not hub.online():
            self.check(self.folder())
        else:
            hub.check(self.hub, self.revision)

    def check(self, folder: Path) -> None:
        """Raise ConfigError for a row that is wrong."""
        self.known(folder, all_rows=self.is_small(folder, self.split))

    def folder(self) -> Path:
        """Where the files are. Raises ConfigError or StageError if they cannot be had."""
        if self.data_dir:
            return Path(self.data_dir)
        if not self.hub:
            raise ConfigError(
                "data_dir is not set: a folder of rows, or hub=NAME and revision=COMMIT"
            )
        places = [f"{self.subset}/", "data/"] if self.subset else [""]
        patterns = [f"{place}*{split}*" for place in places for split in self.splits()]
        return hub.snapshot(self.hub, self.revision, patterns)

    def splits(self) -> list[str]:
        """All that are read."""
        return [self.split]

    def is_small(self, folder: Path, split: str) -> bool:
        """Whether all of a split is read at launch."""
        files = rowfiles.find(folder, self.subset, split)
        return sum(file.stat().st_size for file in files) <= READ_AT_LAUNCH_BYTES

    def rows(self, folder: Path, split: str) -> Iterator[Row]:
        """Every row of a split."""
        files = rowfiles.find(folder, self.subset, split)
        return (Row(place, cells) for place, cells in rowfiles.read(files))

    def known(self, folder: Path, *, all_rows: bool = True) -> list[Known]:
        """The rows of the split. Raises ConfigError for a wrong one, for none, and for two with one id."""
        seen: dict[str, Known] = {}
        places: dict[str, rowfiles.Place] = {}
        for row in islice(self.rows(folder, self.split), None if all_rows else ROWS_AT_LAUNCH):
            if self.where and not row.value("where", self.where):
                continue
            identity = row.name("id", self.id) or f"{self.split}:{row.place.number}"
            if identity in seen:
                raise row.wrong("id", f"{identity} is also that of {places[identity]}")
            places[identity] = row.place
            seen[identity] = Known(
                id=identity,
                document=row.name("document", self.document),
                group=row.name("family", self.family),
                domain=row.name("domain", self.domain),
                asked=self.understand(row),
            )
        if not seen:
            which = f" with {self.where}" if self.where else ""
            raise ConfigError(f"split={self.split}: no rows{which} in {folder}")
        return list(seen.values())


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

    def check(self, folder: Path) -> None:
        """Raise ConfigError for a row that is wrong, and for too few examples."""
        Data.check(self, folder)
        if self.shots and self.is_small(folder, self.few_shot_split):
            known = self.known(folder, all_rows=self.is_small(folder, self.split))
            pools = self.pools(folder)
            for domain in {one.domain for one in known}:
                self.pool(pools, domain)

    def pools(self, folder: Path) -> dict[str, list[Any]]:
        """For each domain what examples are chosen from, whatever order the file has it in."""
        if not self.shots:
            return {}
        rows: dict[str, list[Row]] = {}
        by_hash = {row.hash: row for row in self.rows(folder, self.few_shot_split)}
        for _, row in sorted(by_hash.items()):
            rows.setdefault(row.name("domain", self.domain), []).append(row)
        return {
            domain: [self.understand(row) for row in some[:POOL]] for domain, some in rows.items()
        }

    def pool(self, pools: dict[str, list[Any]], domain: str) -> list[Any]:
        """Those of one domain, or those without any. Raises ConfigError if they are too few."""
        found = pools.get(domain) or pools.get("", [])
        least = self.shots + (self.few_shot_split == self.split)  # an item is not shown to itself
        if len(found) < least:
            of_domain = f" of domain {domain}" if domain else ""
            raise ConfigError(
                f"shots={self.shots}: few_shot_split={self.few_shot_split} has {len(found)} rows{of_domain},"
                f" {least} or more needed"
            )
        return found
