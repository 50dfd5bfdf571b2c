"""Evaluation over several processes: the same scores, and each knows its part."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_copies_share_the_work(exports, copies):
    assert [here["share"] for here in copies.values()] == [[0, 2, 4, 6], [1, 3, 5]]
    assert [here["writes"] for here in copies.values()] == [True, True]
    for export in exports:
        assert copies[0, 0][export.name] == copies[1, 0][export.name]


@pytest.mark.slow
def test_two_copies_of_a_model_on_two_processes_each_find_the_same(exports, copies, tmp_path):
    found = spread(2, 2, tmp_path, exports[:1])
    for (dp_rank, _), here in found.items():
        same(here[exports[0].name], copies[0, 0][exports[0].name])
        assert here["share"] == list(range(7))[dp_rank::2]
