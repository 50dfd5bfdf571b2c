"""One of the processes of an evaluation: scores the same pairs over several, and writes what it found.

python places_of_processes.py DP TP FOLDER EXPORT ...    its place is in the environment
"""

import json
import sys
from pathlib import Path

from llmhpc.config import Resources
from llmhpc.evals.items import Writing
from llmhpc.evals.models.exports import Export, load
from llmhpc.evals.models.places import taken
from llmhpc.evals.models.scoring import Pair, Scorer
from llmhpc.evals.models.writing import Writer

SHOTS = tuple(
    range(20, 60)
)  # a beginning in common: its keys are computed once, by each for its own heads
PAIRS = [Pair((0, *SHOTS, n, n + 1), (n + 2, 9, 11, n)) for n in range(2, 14)]
PROMPTS = ["Bread butter", "River", "Needle thread cloth", "Captain"]
GREEDY = Writing(max_tokens=12, stop=(".",))
SAMPLED = GREEDY._replace(temperature=1.0, samples=2)


def answers(folder: Path, tp: int) -> dict:
    """Scores and texts of one model, and the number of parameters that are here."""
    checkpoint = load(Export(0, 0, folder.name, folder), tp)
    parts = [getattr(p, "to_local", lambda p=p: p)() for p in checkpoint.model.parameters()]
    return {
        "scores": [s.logprob for s in Scorer(checkpoint.model, 128, 90).score(PAIRS)],
        "texts": [Writer(checkpoint, 256).write(PROMPTS, how) for how in (GREEDY, SAMPLED)],
        "parameters": sum(part.numel() for part in parts),
    }


def main() -> None:
    dp, tp, folder, *exports = sys.argv[1:]
    with taken(int(dp), int(tp), Resources(), Path(folder)) as place:
        found = {Path(export).name: answers(Path(export), place.tp) for export in exports}
        found |= {"share": list(place.share(range(7))), "writes": place.writes}
        out = Path(folder) / f"{place.dp_rank}-{place.tp_rank}.json"
        out.write_text(json.dumps(found))
        place.meet("all written")
        assert len(list(Path(folder).glob("?-?.json"))) == place.dp * place.tp


if __name__ == "__main__":
    main()
