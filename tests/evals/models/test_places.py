"""Evaluation over several processes: the same scores, and each knows its part."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import pytest
import torch

from llmhpc import processes
from llmhpc.config import Resources
from llmhpc.errors import PeerLostError, StageError
from llmhpc.evals.models import places
from llmhpc.evals.models.exports import Export, load

PROCESS = Path(__file__).with_name("places_of_processes.py")
JOBS = itertools.count(os.getpid() * 1000)


def start(dp, tp, folder, exports=()):
    """The processes of a step, as submitit's local executor starts them."""
    job = {"SUBMITIT_LOCAL_JOB_ID": str(next(JOBS)), "SUBMITIT_LOCAL_NTASKS": str(dp * tp)}
    ranks = (
        {f"SUBMITIT_LOCAL_{n}": str(r) for n in ("GLOBALID", "LOCALID")} for r in range(dp * tp)
    )
    return [
        subprocess.Popen(
            [sys.executable, PROCESS, str(dp), str(tp), folder, *exports],
            env=os.environ | job | rank | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ranks
    ]


def spread(dp, tp, folder, exports=()):
    """What each process found, by (dp_rank, tp_rank)."""
    started = start(dp, tp, folder, exports)
    errors = [process.communicate(timeout=200)[1] for process in started]
    assert not any(process.returncode for process in started), errors
    files = sorted(folder.glob("?-?.json"))
    return {tuple(map(int, file.stem.split("-"))): json.loads(file.read_text()) for file in files}


@pytest.fixture(scope="module")
def exports(train_step, tmp_path_factory):
    """A trained llama, and a granite (llama with multipliers) of chance weights whose embeddings are tied."""
    import torch
    from transformers import GraniteConfig, GraniteForCausalLM

    llama = train_step / "exports" / "000120"
    granite = tmp_path_factory.mktemp("granite")
    shutil.copytree(llama, granite, dirs_exist_ok=True)
    shape = json.loads((llama / "config.json").read_text())
    for name in ("architectures", "model_type", "dtype"):
        shape.pop(name)
    torch.manual_seed(0)
    multipliers = {"embedding_multiplier": 3.0, "residual_multiplier": 0.7}
    config = GraniteConfig(
        **shape | multipliers | {"logits_scaling": 2.0, "tie_word_embeddings": True}
    )
    GraniteForCausalLM(config).save_pretrained(granite)
    return [llama, granite]


@pytest.fixture(scope="module")
def copies(exports, tmp_path_factory):
    """What two processes find that hold a model each."""
    return spread(2, 1, tmp_path_factory.mktemp("copies"), exports)


def same(one, other):
    assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
    assert one["texts"] == other["texts"]


@pytest.mark.slow
def test_two_processes_that_hold_a_model_together_find_what_one_finds(exports, copies, tmp_path):
    found = spread(1, 2, tmp_path, exports)
    assert set(found) == {(0, 0), (0, 1)}
    for export in exports:
        whole = copies[0, 0][export.name]
        for part in (here[export.name] for here in found.values()):
            same(part, whole)
            assert part["parameters"] < 0.6 * whole["parameters"]
    assert [here["writes"] for here in found.values()] == [True, False]
    assert [here["share"] for here in found.values()] == [list(range(7))] * 2


@pytest.mark.slow
def test_copies_share_the_work(exports, copies):
    assert [here["share"] for here in copies.values()] == [[0, 2, 4, 6], [1, 3, 5]]
    assert [here["writes"] for here in copies.values()] == [True, True]
    for export in exports:
        assert copies[0, 0][export.name] == copies[1, 0][export.name]


@pytest.fixture
def two():
    """Two places of one step, in this process."""
    store = torch.distributed.HashStore()
    cpu = torch.device("cpu")
    return [places.Place(n, 2, 0, 1, processes.Place(n, 2, n, cpu, store=store)) for n in range(2)]


def test_nobody_goes_on_before_all_have_come(two):
    with futures.ThreadPoolExecutor() as pool:
        first = pool.submit(two[0].meet, "here")
        with pytest.raises(futures.TimeoutError):
            first.result(timeout=0.3)
        two[1].meet("here")
        first.result(timeout=5)


def test_a_process_that_fails_is_not_waited_for(two):
    with futures.ThreadPoolExecutor() as pool:
        first = pool.submit(two[0].meet, "here")
        two[1].fail(StageError("no room"))
        with pytest.raises(PeerLostError, match="^process 1 failed: no room$"):
            first.result(timeout=5)


def test_a_process_that_does_not_come_is_not_waited_for_without_end(two, monkeypatch):
    monkeypatch.setattr(places, "MEETING_MIN", 0.001)
    with pytest.raises(PeerLostError, match="process 0 waited .* come to: here; 1 of 2 came"):
        two[0].meet("here")


def test_an_error_of_one_s_own_stays_what_it_is(tmp_path):
    with pytest.raises(ValueError, match="mine"), places.taken(1, 1, Resources(), tmp_path):
        raise ValueError("mine")
    with places.taken(1, 1, Resources(), tmp_path) as place:
        assert (place.dp_rank, place.tp_rank, place.process.device.type) == (0, 0, "cpu")


@pytest.mark.parametrize(
    ("tp", "changes", "message"),
    [
        (4, {}, "tp=4: a divisor of 2, the model's key and value heads"),
        (2, {"model_type": "gpt2"}, "tp=2: transformers cannot cut a gpt2 model"),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused(exports, tmp_path, tp, changes, message):
    shutil.copytree(exports[0], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(StageError, match=message):
        load(Export(0, 0, "x", tmp_path), tp)


@pytest.mark.slow
def test_two_copies_of_a_model_on_two_processes_each_find_the_same(exports, copies, tmp_path):
    found = spread(2, 2, tmp_path, exports[:1])
    for (dp_rank, _), here in found.items():
        same(here[exports[0].name], copies[0, 0][exports[0].name])
        assert here["share"] == list(range(7))[dp_rank::2]
