"""The data ledger: documents, bytes and tokens that came to each rule, went on and were removed, for each domain.

A rank adds up its share and hands over sums in files; one task joins them in a fixed amount of memory. A document
that rule k removed came to every rule up to k, and so did the parts that rule k took out of documents: what came to
rule k is what was kept in the end and what rule k and all behind it removed.
"""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet

from llmhpc.errors import StageError
from llmhpc.inspection.piles import Piece, fates

HELD = 100_000  # sums in memory before they go to a file: some 50 MB
ROW_GROUP = 1 << 17
COLUMNS = ("documents", "bytes", "tokens", "parts", "pages")
SUMS = pa.schema(
    [(name, pa.string()) for name in ("step", "fate", "domain")]
    + [(name, pa.int64()) for name in COLUMNS]
)
COUNTED = ("documents", "bytes", "tokens")
SIDES = ("in", "kept", "removed")
MOST_REMOVED = 10  # domains listed for each rule


class Sums:
    """Adds pieces up by step, fate and domain; writes ``folder``/{rank}-{number}.parquet."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.rank = folder, rank
        self._sums: dict[tuple[str, str, str], list[int]] = {}
        self._files = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, piece: Piece, tokens: int) -> None:
        """Count a piece that has so many tokens."""
        sums = self._sums.setdefault((piece.step, piece.fate, piece.domain), [0] * len(COLUMNS))
        page = piece.text is None
        for at, value in enumerate((piece.whole, piece.size, tokens, not piece.whole, page)):
            sums[at] += value
        if len(self._sums) >= HELD:
            self.close()

    def close(self) -> None:
        """Write what is held."""
        rows = [(*key, *sums) for key, sums in sorted(self._sums.items())]
        columns = list(zip(*rows, strict=True)) or [()] * len(SUMS)
        table = pa.table(columns, schema=SUMS)
        pa.parquet.write_table(
            table, self.folder / f"{self.rank:05d}-{self._files:04d}.parquet", compression="zstd"
        )
        self._files += 1
        self._sums = {}


class Ledger:
    """The sums of all ranks as one table, ``ledger.parquet``, and what a page shows of it.

    Beyond ``memory_gb`` it works on disk, in ``scratch``. Raises StageError if that is too little even so.
    """

    def __init__(
        self,
        sums: Path,
        out: Path,
        steps: dict[str, Path],
        *,
        exact: bool,
        memory_gb: float,
        scratch: Path,
    ) -> None:
        self._db = duckdb.connect()
        self._db.execute("SET threads = 1")  # the order of rows in the file depends on nothing
        self._db.execute("SET memory_limit = ?", [f"{memory_gb:g}GB"])
        self._db.execute("SET temp_directory = ?", [str(scratch)])
        places = [
            (name, fate, place)
            for name, step in steps.items()
            for place, fate in enumerate(fates(step))
        ]
        self._table("fates", "step VARCHAR, fate VARCHAR, place INTEGER", places)
        query = _FLOW.format(sums=_quoted(sums / "*.parquet"), exact=str(exact).lower())
        self.path = out / "ledger.parquet"
        options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP}"
        try:
            self._db.execute(f"COPY ({query}) TO {_quoted(self.path)} ({options})")
        except duckdb.OutOfMemoryException as error:
            raise StageError(
                f"resources.mem_gb: {memory_gb:g} GB of it are left to add up the ledger; more ({error})".split(
                    "\n"
                )[0]
            ) from None

    def totals(self) -> list[dict[str, Any]]:
        """Every rule of every step, all domains together."""
        added = ", ".join(f"sum({c}_{s})::BIGINT AS {c}_{s}" for c in COUNTED for s in SIDES)
        return self._records(f"""SELECT step, place, rule, {added}, count(*) AS domains,
            min(tokens_are) AS tokens_are -- estimated if one is: in the alphabet that comes before exact and none
            FROM {self._rows} GROUP BY step, rule, place ORDER BY step, place""")

    def top(self, number: int) -> dict[str, list[str]]:
        """For each step the domains of which it kept most tokens (of pages: bytes), in order."""
        query = f"""SELECT step, domain, row_number() OVER (PARTITION BY step
                ORDER BY tokens_kept DESC, bytes_kept DESC, domain) AS number
            FROM {self._rows} JOIN (SELECT step, max(place) AS place FROM {self._rows} GROUP BY step)
            USING (step, place) WHERE documents_kept > 0 QUALIFY number <= {number} ORDER BY step, number"""
        found: dict[str, list[str]] = {}
        for step, domain, _ in self._db.execute(query).fetchall():
            found.setdefault(step, []).append(domain)
        return found

    def of_domains(self, domains: dict[str, list[str]]) -> list[dict[str, Any]]:
        """The lines of the ledger about some domains of each step."""
        rows = [(step, d, n) for step, names in domains.items() for n, d in enumerate(names)]
        self._table("wanted", "step VARCHAR, domain VARCHAR, number INTEGER", rows)
        return self._records(f"""SELECT l.* FROM {self._rows} AS l JOIN wanted USING (step, domain)
            ORDER BY l.step, number, place""")

    def most_removed(self) -> list[dict[str, Any]]:
        """For each rule the domains of which it removed most."""
        return self._records(f"""SELECT * FROM {self._rows} WHERE documents_removed > 0 OR bytes_removed > 0
            QUALIFY row_number() OVER (PARTITION BY step, place
                ORDER BY tokens_removed DESC, documents_removed DESC, domain) <= {MOST_REMOVED}
            ORDER BY step, place, tokens_removed DESC, documents_removed DESC, domain""")

    @property
    def _rows(self) -> str:
        return f"read_parquet({_quoted(self.path)})"

    def _table(self, name: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
        self._db.execute(f"CREATE TABLE {name} ({columns})")
        if rows:
            holes = ", ".join("?" * len(rows[0]))
            self._db.executemany(f"INSERT INTO {name} VALUES ({holes})", rows)

    def _records(self, query: str) -> list[dict[str, Any]]:
        answer = self._db.execute(query)
        names = [column[0] for column in answer.description or []]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def _quoted(path: Path) -> str:
    """A path as a word of SQL."""
    return "'" + str(path).replace("'", "''") + "'"


# A step without rules has one line, of the rule "": all of it.
_FLOW = """
WITH sums AS (
    SELECT step, fate, domain, sum(documents)::BIGINT AS documents, sum(bytes)::BIGINT AS bytes,
        sum(tokens)::BIGINT AS tokens, sum(parts)::BIGINT AS parts, sum(pages)::BIGINT AS pages
    FROM read_parquet({sums}) GROUP BY ALL),
grid AS (
    SELECT fates.step, fates.fate, place, domains.domain, coalesce(documents, 0) AS documents,
        coalesce(bytes, 0) AS bytes, coalesce(tokens, 0) AS tokens, coalesce(parts, 0) AS parts,
        coalesce(pages, 0) AS pages
    FROM (SELECT DISTINCT step, domain FROM sums) AS domains JOIN fates USING (step)
    LEFT JOIN sums ON sums.step = fates.step AND sums.fate = fates.fate AND sums.domain = domains.domain),
flow AS (
    SELECT *, sum(documents) OVER behind AS documents_in, sum(bytes) OVER behind AS bytes_in,
        sum(tokens) OVER behind AS tokens_in, sum(parts) OVER behind AS parts_in, sum(pages) OVER behind AS pages_in
    FROM grid WINDOW behind AS (PARTITION BY step, domain ORDER BY place DESC ROWS UNBOUNDED PRECEDING)),
removed AS (
    SELECT * REPLACE (CASE WHEN fate = 'kept' THEN 0 ELSE documents END AS documents,
        CASE WHEN fate = 'kept' THEN 0 ELSE bytes END AS bytes, CASE WHEN fate = 'kept' THEN 0 ELSE tokens END AS tokens)
    FROM flow WHERE documents_in > 0 AND (fate != 'kept' OR place = 0))
SELECT step, place, CASE WHEN fate = 'kept' THEN '' ELSE fate END AS rule, domain,
    documents_in::BIGINT AS documents_in, (documents_in - documents)::BIGINT AS documents_kept,
    documents::BIGINT AS documents_removed,
    bytes_in::BIGINT AS bytes_in, (bytes_in - bytes)::BIGINT AS bytes_kept, bytes::BIGINT AS bytes_removed,
    tokens_in::BIGINT AS tokens_in, (tokens_in - tokens)::BIGINT AS tokens_kept, tokens::BIGINT AS tokens_removed,
    CASE WHEN pages_in > 0 THEN 'none' WHEN {exact} AND parts_in = 0 THEN 'exact' ELSE 'estimated' END AS tokens_are
FROM removed ORDER BY step, place, domain
"""
