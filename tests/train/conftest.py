"""Training runs of a tiny llama: in this process, or as the processes that an executor would start."""

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from llmhpc.files import write_json
from llmhpc.handoff import artifact
from llmhpc.jobs import train as stage
from llmhpc.models.llama import Config as Llama
from llmhpc.planning.plan import Step, fingerprint, plain
from llmhpc.step import gate, run_task
from llmhpc.train.settings import Parallel, Schedule

VOCABULARY = 128
TOKENS = 20_000
SEED = 7
JOBS = itertools.count(os.getpid() * 1000)
RUN_TASK = "import sys; from llmhpc.step import run_task; run_task(sys.argv[1], 'main', 0)"


class Processes:
    """The processes of one start of a step, as submitit's local executor starts them."""

    def __init__(self, home, count):
        job = {"SUBMITIT_LOCAL_JOB_ID": str(next(JOBS)), "SUBMITIT_LOCAL_NTASKS": str(count)}
        self.home = home
        self.all = [
            subprocess.Popen(
                [sys.executable, "-c", RUN_TASK, str(home)],
                env=os.environ
                | job
                | {"SUBMITIT_LOCAL_GLOBALID": str(i), "SUBMITIT_LOCAL_LOCALID": str(i)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(count)
        ]

    def finish(self):
        errors = [process.communicate(timeout=240)[1] for process in self.all]
        assert all(process.returncode == 0 for process in self.all), "\n".join(
            e[-2000:] for e in errors
        )

    def kill_after(self, step, saved=None):
        """SIGKILL to all of them once the step is logged and the checkpoint ``saved`` is there."""
        lines = self.home / "metrics.jsonl"
        checkpoint = self.home / "checkpoints" / str(saved) if saved else self.home
        while (
            not lines.exists()
            or len(lines.read_text().splitlines()) < step
            or not checkpoint.exists()
        ):
            assert self.all[0].poll() is None, self.all[0].communicate()[1]
            time.sleep(0.01)
        for process in self.all:
            process.kill()
            process.communicate()


class Runs:
    """Makes steps of training and reads what they recorded."""

    def __init__(self, inputs):
        self.inputs = inputs
        self.base = stage.Config(
            needs={"tokens": "tokenize", "tokenizer": "tokenizer"},
            model=Llama(vocab_size=VOCABULARY, hidden_size=64, layers=4, intermediate_size=96),
            parallel=Parallel(micro_batch=2),
            schedule=Schedule(steps=8, global_batch=8, sequence_length=32, warmup_steps=2),
            checkpoint_every=3,
        )

    def settings(self, *, model=None, parallel=None, schedule=None, **fields):
        nested = {"model": model, "parallel": parallel, "schedule": schedule}
        for name, changes in nested.items():
            fields[name] = replace(getattr(self.base, name), **(changes or {}))
        return replace(self.base, **fields)

    def order(self, home, **changes):
        cfg = self.settings(**changes)
        inputs = {role: path.name for role, path in self.inputs.items()}
        mark = fingerprint(plain(cfg, identity_only=True), inputs, SEED)
        artifact.order(Step("train", cfg, SEED, mark, home, self.inputs))
        return cfg

    def here(self, home, **changes):
        """Train in this process."""
        self.order(home, **changes)
        run_task(home, "main", 0)
        gate(home, "main")
        return self.records(home)

    def start(self, home, **changes):
        """Start the processes of a layout."""
        return Processes(home, self.order(home, **changes).processes())

    def spread(self, home, **changes):
        """Train in as many processes as the layout has."""
        self.start(home, **changes).finish()
        gate(home, "main")
        return self.records(home)

    @staticmethod
    def records(home):
        return [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Tokens that a network can learn (each follows from the one before, nearly always) and a tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens, tokenizer = (tmp_path_factory.mktemp(name) for name in ("tokens", "tokenizer"))
    random = np.random.default_rng(0)
    row = np.empty(TOKENS, dtype="<u2")
    row[0] = 0
    noise, follow = random.integers(0, VOCABULARY, TOKENS), random.permutation(VOCABULARY)
    for i in range(1, TOKENS):
        row[i] = noise[i] if random.random() < 0.2 else follow[row[i - 1]]
    for split in ("train", "heldout"):
        (tokens / split).mkdir()
        row.tofile(tokens / split / "00000.ds")
        np.array([TOKENS], dtype="<u8").tofile(tokens / split / "00000.ds.index")
    index = {"dtype": "uint16", "vocab_size": VOCABULARY, "eos_id": 0}
    for split in ("train", "heldout"):
        index[split] = {"tokens": TOKENS, "documents": 1, "files": [f"{split}/00000.ds"]}
    write_json(tokens / "tokens.json", index)

    folder = tokenizer / "tokenizer"
    folder.mkdir()
    words = ["<|endoftext|>", "<|pad|>", *(f"w{i}" for i in range(2, VOCABULARY))]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="w2"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(words[:2])
    made.save(str(folder / "tokenizer.json"))
    special = {"bos_token": words[0], "eos_token": words[0], "pad_token": words[1]}
    write_json(folder / "special_tokens_map.json", special)
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    write_json(folder / "tokenizer_config.json", special | kind)
    for step in (tokens, tokenizer):
        write_json(step / artifact.MANIFEST, {})
    return {"tokens": tokens, "tokenizer": tokenizer}


@pytest.fixture(scope="session")
def runs(inputs):
    return Runs(inputs)


@pytest.fixture(scope="session")
def single(runs, tmp_path_factory):
    """The run that others are compared with: one process, never interrupted. Its directory."""
    home = tmp_path_factory.mktemp("single")
    runs.here(home)
    return home
