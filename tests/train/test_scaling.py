"""Width and depth: what new weights, learning rates and multipliers of a network are."""

import math
from dataclasses import replace

import pytest
import torch

from llmhpc.config import Resources
from llmhpc.errors import ConfigError
from llmhpc.models.llama import Config as Llama
from llmhpc.models.llama import gguf
from llmhpc.models.llama.scaling import init_std, multipliers
from llmhpc.train.settings import Parallel, Schedule

SMALL = Llama(vocab_size=64, hidden_size=32, layers=2, heads=2, kv_heads=2, intermediate_size=64)
SCHEDULE = Schedule(steps=4, global_batch=4, sequence_length=32, lr=0.01, warmup_steps=0)


def wide(times, **changes):
    """The small network so many times as wide, with heads as large as before."""
    grown = {name: times * getattr(SMALL, name) for name in ("hidden_size", "intermediate_size")}
    grown |= {name: times * getattr(SMALL, name) for name in ("heads", "kv_heads")}
    return replace(SMALL, **grown, **changes)


def batches():
    from llmhpc.train.data import Rows

    generator = torch.Generator().manual_seed(0)
    follow = torch.randperm(64, generator=generator)
    rows = [torch.randint(64, (4, 1), generator=generator)]
    for _ in range(32):
        rows.append(follow[rows[-1]])
    weights = torch.ones((4, 32)).numpy()
    return [Rows(torch.cat(rows, dim=1).numpy(), weights)]


def engine_of(model, place, schedule=SCHEDULE):
    from llmhpc.train.engine import Engine

    return Engine(model, Parallel(), schedule, seed=1, place=place)


def weights_of(engine):
    """Copies by name."""
    pieces = [piece for piece in engine.optimizer.pieces() if piece.key.startswith("weight/")]
    return {piece.key.removeprefix("weight/"): piece.row.clone() for piece in pieces}


def logits_of(network):
    with torch.no_grad():
        hidden = network.embedding(input_ids=torch.from_numpy(batches()[0].tokens))["hidden"]
        for layer in network.layers:
            hidden = layer(hidden=hidden, documents=None)["hidden"]
        return network.head(hidden=hidden)["logits"]


@pytest.fixture
def place(tmp_path):
    from llmhpc.processes import joined

    with joined(1, Resources(), tmp_path) as place:
        yield place


def change_of_logits(model, place):
    """Root mean square of what a few steps do to the logits."""
    engine = engine_of(model, place)
    before = logits_of(engine.network)
    for step in range(1, 5):
        engine.step(batches(), SCHEDULE.learning_rate(step))
    return (logits_of(engine.network) - before).square().mean().sqrt().item()


def growth(times, place, **changes):
    """How many times as much the logits of a wider network change, at the same learning rate."""
    small = change_of_logits(replace(SMALL, **changes), place)
    return change_of_logits(wide(times, **changes), place) / small


def test_with_mup_steps_change_the_logits_of_a_wide_network_as_those_of_a_slim_one(place):
    assert 0.5 < growth(8, place, mup_base_width=32) < 1.5
    assert growth(8, place) > 4


def test_the_base_width_is_drawn_as_without_mup(place):
    plain, mup = (
        weights_of(engine_of(replace(SMALL, mup_base_width=base), place)) for base in (0, 32)
    )
    assert all(torch.equal(plain[name], mup[name]) for name in plain)


def test_weights_are_drawn_by_width_and_depth(place):
    drawn = weights_of(engine_of(wide(4, mup_base_width=32, tied_embeddings=False), place))
    of_layers = 0.02 / math.sqrt(4)
    expected = {
        "embedding.table.weight": 0.02,
        "head.output.weight": 0.02,
        "layers.0.qkv.weight": of_layers,
        "layers.1.gate_up.weight": of_layers,
        "layers.1.attention_out.weight": of_layers / math.sqrt(2 * 2),
        "layers.0.down.weight": of_layers / math.sqrt(2 * 2),
    }
    for name, std in expected.items():
        assert drawn[name].std().item() == pytest.approx(std, rel=0.03), name


def test_a_spread_of_zero_follows_the_width():
    assert init_std(Llama(init_std=0, hidden_size=1024), "embedding") == math.sqrt(2 / (5 * 1024))
    mup = Llama(init_std=0, hidden_size=1024, mup_base_width=256)
    assert init_std(mup, "embedding") == math.sqrt(2 / (5 * 256))
    assert init_std(mup, "layers.0.qkv.weight") == pytest.approx(math.sqrt(2 / (5 * 1024)))


def test_a_factor_by_depth_takes_the_place_of_a_smaller_spread():
    deep = Llama(layers=8, scale_depth=1.4)
    assert multipliers(deep).residual == pytest.approx(1.4 / math.sqrt(8))
    assert init_std(deep, "layers.0.down.weight") == 0.02
    assert init_std(Llama(layers=8), "layers.0.down.weight") == 0.02 / 4


def test_multipliers_are_not_lost_on_the_way_to_llama_cpp():
    with pytest.raises(ConfigError, match="all 1, llama.cpp's llama has none"):
        gguf.metadata(Llama(mup_base_width=128))
    assert gguf.metadata(Llama())["block_count"] == 4


def test_learning_rates_go_with_the_width_and_decay_does_not(place):
    """Without a gradient AdamW only decays: what is left after a step says learning rate times decay."""
    schedule = replace(SCHEDULE, weight_decay=0.5)
    engine = engine_of(wide(4, mup_base_width=32, tied_embeddings=False), place, schedule)
    before = weights_of(engine)
    engine.optimizer.begin(1)
    engine.optimizer.update(torch.ones(()), 0.1, torch.zeros(()))
    after = weights_of(engine)
    for name in ("layers.0.qkv.weight", "layers.1.down.weight", "head.output.weight"):
        assert torch.allclose(after[name], before[name] * (1 - 0.1 * 0.5)), name
    for name in ("embedding.table.weight", "layers.0.attention_norm.weight"):
        assert torch.equal(after[name], before[name]), name
    rates = {
        part.name: group["lr"]
        for group in engine.optimizer.adam.param_groups
        for bucket in engine.optimizer.buckets
        for part in bucket.parts
        if any(bucket.master is master for master in group["params"])
    }
    matrices = {name for name in rates if name.startswith("layers.") and "norm" not in name}
    assert {rates[name] for name in matrices} == {0.1 / 4}
    assert {rates[name] for name in rates.keys() - matrices} == {0.1}
    assert len(matrices) == 8
