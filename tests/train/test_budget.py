"""Training as long as a budget of tokens says, and what the plan says that it takes."""

from dataclasses import replace

import pytest

from llmhpc.config import Resources
from llmhpc.errors import ConfigError
from llmhpc.files import write_json
from llmhpc.handoff import artifact
from llmhpc.jobs.train import Config
from llmhpc.models.llama import Config as Llama
from llmhpc.planning.plan import plain
from llmhpc.planning.registry import revive
from llmhpc.train.outlook import work
from llmhpc.train.settings import MixturePhase, Parallel, Schedule


def stage(**schedule):
    return Config(model=Llama(), parallel=Parallel(), schedule=Schedule(**schedule))


@pytest.mark.parametrize("warmup", [[], [[3, 4], [10, 8]]])
@pytest.mark.parametrize("tokens", [1, 4096, 4097, 123_456, 1e6])
def test_the_last_step_is_the_first_that_reaches_the_budget(tokens, warmup):
    schedule = Schedule(tokens=tokens, batch_warmup=warmup if tokens > 1e5 else [], warmup_steps=0)
    assert schedule.tokens_at(schedule.steps) >= tokens
    assert schedule.steps == 1 or schedule.tokens_at(schedule.steps - 1) < tokens


def test_tokens_per_parameter_are_those_of_the_model():
    cfg = stage(tokens_per_parameter=20, global_batch=64)
    wanted = 20 * cfg.model.parameters()
    batch = 64 * 256
    assert wanted <= cfg.tokens() < wanted + batch
    larger = replace(cfg, model=Llama(hidden_size=512))
    assert larger.schedule.steps > 2 * cfg.schedule.steps
    assert cfg.tokens() < wanted + batch  # as before
    assert revive(Config, plain(cfg)) == cfg


@pytest.mark.parametrize("budget", [{"tokens": 40_000}, {"tokens_per_parameter": 0.01}])
def test_what_depends_on_the_steps_is_checked_with_those_of_the_budget(budget):
    with pytest.raises(ConfigError, match=r"warmup_steps=20: .* at most steps=10$"):
        stage(**budget)
    with pytest.raises(ConfigError, match=r"batch_warmup=\[\[50, 8\]\]: pairs .* below steps="):
        stage(**budget, warmup_steps=0, batch_warmup=[[50, 8]])
    phases = [MixturePhase(until_step=50, weights={"a": 1.0}), MixturePhase(weights={"a": 1.0})]
    with pytest.raises(ConfigError, match=r"phases.0.until_step=50: above 0 and below steps=10"):
        stage(**budget, warmup_steps=0, phases=phases)


def test_there_is_one_budget():
    with pytest.raises(ConfigError, match="tokens=1e.06: either it or tokens_per_parameter=20"):
        stage(tokens=1e6, tokens_per_parameter=20)
    with pytest.raises(ConfigError, match="tokens=-1: 0 or more"):
        stage(tokens=-1)


@pytest.mark.parametrize(
    ("budget", "begin", "limit"),
    [
        ({"tokens": 1e6}, "schedule.tokens=1e+06: 10.0 times through the 100,000 tokens", "397,312"),
        ({"tokens_per_parameter": 1.0}, "schedule.tokens_per_parameter=1: 40.", "0.0993"),
        ({"steps": 400}, "schedule.steps=400: 16.4 times", "97"),
    ],
)  # fmt: skip
def test_too_few_tokens_for_the_budget_are_one_line(budget, begin, limit, tmp_path):
    tokens = tmp_path / "tokens"
    write_json(tokens / "tokens.json", {"vocab_size": 4096, "train": {"tokens": 100_000}})
    write_json(tokens / artifact.MANIFEST, {})
    cfg = stage(**budget)
    (finding,) = cfg.foresee({"tokens": tokens}, tmp_path / "run", machine_gb=1000)
    assert finding.estimate
    assert finding.message.startswith(begin)
    assert f" of tokens; at most {limit}, or more data" in finding.message
    (key,) = budget
    most = int(limit) if key == "steps" else float(limit.replace(",", ""))
    enough = stage(**{key: most})
    assert not enough.foresee({"tokens": tokens}, tmp_path / "run", machine_gb=1000)


def test_the_plan_says_what_training_takes():
    model = Llama(  # Llama 3.1 8B
        vocab_size=128256,
        hidden_size=4096,
        layers=32,
        heads=32,
        kv_heads=8,
        intermediate_size=14336,
        tied_embeddings=False,
    )
    schedule = Schedule(sequence_length=8192, global_batch=128, tokens=1e12)
    tokens = schedule.tokens_at(schedule.steps)
    # 7.5e9 weights of matrices; 12 x 32 x 4096 x 8192 for the scores of a token
    flops = (6 * 7_504_658_432 + 12_884_901_888) * tokens
    assert model.flops_per_token(8192) * tokens == flops
    hours = flops / (989e12 * 0.4) / 3600
    said = work(model, schedule, Resources(nodes=16, gpus_per_node=8), tokens, 0.4)
    assert said == (
        f"{tokens:,} tokens, 125 per parameter, 5.8e+22 FLOPs, about {hours:,.0f} GPU-hours"
        f" ({hours / 128:,.0f} hours on 128) at 40% of 989 TFLOP/s"
    )
    assert "GPU" not in work(model, schedule, Resources(), tokens, 0.4)
