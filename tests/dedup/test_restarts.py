"""A rank that is killed at work and started again leaves no trace in what the step makes."""

import subprocess
import sys
import time

import pytest

from llmhpc import step
from llmhpc.dedup import bloom, minhash, sentence, substring, url
from llmhpc.handoff import artifact
from llmhpc.jobs import dedup
from llmhpc.planning.plan import Step, fingerprint, plain

METHODS = {
    "minhash": (minhash.Config(), "signatures"),
    "bloom": (bloom.Config(buckets=2), "units"),
    "substring": (substring.Config(buckets=2), "pieces"),
    "sentence": (sentence.Config(buckets=2, sentences=1), "spans"),
    "url": (url.Config(buckets=2), "keys"),
}


@pytest.fixture(scope="module")
def crawl(prose, with_copies, write_documents, tmp_path_factory):
    home = tmp_path_factory.mktemp("crawl") / "in-00000000"
    write_documents(home, with_copies(prose(900), 200))
    (home / "manifest.json").write_text("{}")
    return home


def ordered(config, crawl, root):
    """The directory of a step that is to be made."""
    mark = fingerprint(plain(config, identity_only=True), {"documents": "00000000"}, 0)
    home = root / f"dedup-{mark}"
    artifact.order(
        Step(
            name="dedup",
            stage=config,
            seed=0,
            fingerprint=mark,
            out=home,
            inputs={"documents": crawl},
        )
    )
    return home


def kill_at_work(home, phase, rank):
    """Start one task and kill it once it has begun to write."""
    command = [sys.executable, "-m", "llmhpc.step", str(home), phase, str(rank)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((home / artifact.SCRATCH).glob(f"{phase}-*/work/*")):
        assert process.poll() is None and time.monotonic() < deadline
    process.kill()
    process.wait()
    assert artifact.missing_ranks(home, phase, 3) == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_rank_changes_no_byte(method, crawl, files_of, tmp_path):
    settings, phase = METHODS[method]
    config = dedup.Config(ranks=3, method=settings, needs={"documents": "in"})
    homes = [ordered(config, crawl, tmp_path / name) for name in ("whole", "killed")]
    kill_at_work(homes[1], phase, 1)
    for home in homes:
        assert step.main([str(home)]) == 0
    made = [
        {
            name: body
            for name, body in files_of(home).items()
            if name.startswith(("documents/", "removed/", "clusters/"))
        }
        for home in homes
    ]
    assert made[0] == made[1]
    assert len(made[0]) >= 3
