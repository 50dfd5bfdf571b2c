import pickle
import random

import pytest
import torch

from llmhpc.errors import ArtifactError, StageError
from llmhpc.evals.models import exports
from llmhpc.evals.models.scoring import Pair, Scorer

LENGTH = 128  # positions of the tiny model


@pytest.fixture(scope="module")
def checkpoint(train_step):
    return exports.load(exports.find_exports(train_step)[-1])


@pytest.fixture(scope="module")
def pairs():
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 400, (count,), generator=generator).tolist())

    contexts = [draw(count) for count in (1, 1, 2, 17, 40, 55)]
    pairs = [Pair(c, draw(n)) for c in contexts for n in (1, 3, 4, 9)]
    return pairs + pairs[5:9] + [Pair((0,), draw(LENGTH))]


def plain(model, pair):
    """One forward of the whole model on one pair."""
    ids = torch.tensor([[*pair.context, *pair.continuation]])[:, :-1]
    with torch.inference_mode():
        logprobs = model(ids).logits[0, len(pair.context) - 1 :].log_softmax(-1)
    target = torch.tensor(pair.continuation)
    greedy = bool((logprobs.argmax(-1) == target).all())
    return logprobs.gather(1, target[:, None]).double().sum().item(), greedy


def test_scores_equal_a_plain_loop(checkpoint, pairs):
    scores = Scorer(checkpoint.model, LENGTH, 4096).score(pairs)
    for pair, score in zip(pairs, scores, strict=True):
        logprob, greedy = plain(checkpoint.model, pair)
        assert score.logprob == pytest.approx(logprob, abs=1e-5, rel=1e-6)
        assert score.greedy == greedy


def test_scores_do_not_depend_on_the_batch_size(checkpoint, pairs):
    wanted = [score.logprob for score in Scorer(checkpoint.model, LENGTH, 4096).score(pairs)]
    for batch_tokens in (1, 100, 300):
        scores = Scorer(checkpoint.model, LENGTH, batch_tokens).score(pairs)
        assert [score.logprob for score in scores] == pytest.approx(wanted, abs=1e-5, rel=1e-6)


def test_scores_without_shared_contexts_are_the_same(checkpoint, pairs):
    shared, apart = (Scorer(checkpoint.model, LENGTH, 4096) for _ in range(2))
    apart.branching = False
    assert positions(shared.plan(pairs)) < 0.7 * positions(apart.plan(pairs))
    wanted = [score.logprob for score in apart.score(pairs)]
    assert [s.logprob for s in shared.score(pairs)] == pytest.approx(wanted, abs=1e-5, rel=1e-6)


@pytest.mark.parametrize("batch_tokens", [1, 60, 4096])
def test_scores_behind_a_common_prefix_equal_a_plain_loop(checkpoint, batch_tokens):
    questions = few_shot(20)
    scorer = Scorer(checkpoint.model, LENGTH, batch_tokens)
    prefixes = {len(batch.prefix) for batch in scorer.plan(questions)}
    assert (prefixes == {0}) == (batch_tokens == 4096)  # less than a batch is one row or a few
    for pair, score in zip(questions, scorer.score(questions), strict=True):
        logprob, greedy = plain(checkpoint.model, pair)
        assert score.logprob == pytest.approx(logprob, abs=1e-5, rel=1e-6)
        assert score.greedy == greedy


def test_a_common_prefix_is_computed_once_for_a_batch(checkpoint):
    questions = few_shot(20)
    batches = Scorer(checkpoint.model, LENGTH, 200).plan(questions)
    assert {len(batch.prefix) for batch in batches} == {60}
    assert positions(batches) < 20 * (10 + 4 * 3) * 1.2


@pytest.mark.parametrize("batch_tokens", [40, 150, 600])
def test_passages_behind_examples_behind_instructions_are_scored_as_in_a_plain_loop(
    checkpoint, batch_tokens
):
    rnd = random.Random(batch_tokens)

    def draw(least: int, most: int) -> tuple[int, ...]:
        return tuple(rnd.randrange(400) for _ in range(rnd.randint(least, most)))

    instructions = draw(18, 18)
    shots = [instructions + draw(20, 30) for _ in range(2)]
    passages = [shot + draw(0, 25) for shot in shots for _ in range(4)]
    questions = [passage + draw(0, 8) for passage in passages for _ in range(3)]
    some = [Pair(context, draw(1, 5)) for context in questions for _ in range(3)]
    some += [Pair(some[0].context[:20], some[0].context[20:23]), *some[:2]]
    scorer = Scorer(checkpoint.model, LENGTH, batch_tokens)
    covered = [pair for batch in scorer.plan(some) for pair in batch.pairs]
    assert sorted(covered) == sorted(set(some))
    for pair, score in zip(some, scorer.score(some), strict=True):
        logprob, greedy = plain(checkpoint.model, pair)
        assert score.logprob == pytest.approx(logprob, abs=1e-5, rel=1e-6)
        assert score.greedy == greedy


def test_a_model_with_multipliers_is_scored_as_in_a_plain_loop(pairs):
    from transformers import GraniteConfig, GraniteForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 400}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}
    multipliers = {"logits_scaling": 4.0, "attention_multiplier": 0.1, "residual_multiplier": 0.5}
    config = GraniteConfig(
        **shape, **heads, **multipliers, embedding_multiplier=3.0, max_position_embeddings=LENGTH
    )
    model = GraniteForCausalLM(config).eval()
    for batch_tokens in (4096, 60):
        scorer = Scorer(model, LENGTH, batch_tokens)
        for pair, score in zip(pairs, scorer.score(pairs), strict=True):
            assert score.logprob == pytest.approx(plain(model, pair)[0], abs=1e-5, rel=1e-6)
    assert positions(scorer.plan(pairs)) < 0.6 * sum(len(pair.inputs) for pair in pairs)


def test_a_model_whose_logits_are_not_those_of_its_head_is_refused():
    from transformers import CohereConfig, CohereForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 400}
    config = CohereConfig(**shape, num_attention_heads=4, logit_scale=0.5, initializer_range=0.5)
    with pytest.raises(StageError, match="model_type=cohere: granite, llama or another whose"):
        Scorer(CohereForCausalLM(config).eval(), LENGTH, 4096)


def test_the_plan_does_not_depend_on_the_order_and_scores_are_the_same_bits(checkpoint, pairs):
    scorer = Scorer(checkpoint.model, LENGTH, 100)
    plan = scorer.plan(pairs)
    assert scorer.plan(pairs[::-1] + pairs[:3]) == plan
    assert len({batch.hash for batch in plan}) == len(plan) > 3
    wanted = scorer.score(pairs)
    scores = {}
    for batch in plan[::-1]:  # as other processes would, each on its own
        again = Scorer(checkpoint.model, LENGTH, 100).score_batch(pickle.loads(pickle.dumps(batch)))
        assert list(again) == batch.pairs
        scores |= again
    assert scorer.collect(pairs, scores) == wanted


def test_a_batch_has_about_the_positions_that_it_may_have(checkpoint, pairs):
    for batch_tokens in (60, 200, 1000):
        for batch in Scorer(checkpoint.model, LENGTH, batch_tokens).plan(pairs):
            assert batch.positions <= batch_tokens or len(batch.pairs) == 1


def test_nothing_to_score_is_no_batch(checkpoint):
    assert Scorer(checkpoint.model, LENGTH, 100).score([]) == []


def few_shot(count: int) -> list[Pair]:
    """Questions of ten tokens behind the same 60, with four answers of four tokens."""
    generator = torch.Generator().manual_seed(1)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 400, (count,), generator=generator).tolist())

    shots = draw(60)
    return [
        Pair(context, draw(4))
        for context in (shots + draw(10) for _ in range(count))
        for _ in range(4)
    ]


def positions(batches) -> int:
    return sum(batch.positions for batch in batches)


def test_a_greedy_continuation_is_recognised(checkpoint):
    ids = checkpoint.tokenizer.encode("Bread butter")
    for _ in range(3):
        with torch.inference_mode():
            ids.append(checkpoint.model(torch.tensor([ids])).logits[0, -1].argmax().item())
    (score,) = Scorer(checkpoint.model, LENGTH, 4096).score(
        [Pair(tuple(ids[:-3]), tuple(ids[-3:]))]
    )
    assert score.greedy


def test_a_context_that_is_too_long_loses_its_beginning_and_is_counted(checkpoint):
    scorer = Scorer(checkpoint.model, LENGTH, 4096)
    long, short = scorer.score([Pair((7,) * 30 + (9,) * 124, (5, 6)), Pair((9,) * 124, (5, 6))])
    assert (long.truncated, short.truncated) == (27, 0)
    assert long.logprob != short.logprob
    (cut,) = scorer.score([Pair((7,) * 3 + (9,) * 124, (5, 6))])
    assert cut.truncated == 0
    assert long.logprob == pytest.approx(cut.logprob, abs=1e-5)


def test_a_continuation_longer_than_the_model_is_refused(checkpoint):
    with pytest.raises(StageError, match="a text of 129 tokens to score: 1 to 128"):
        Scorer(checkpoint.model, LENGTH, 4096).score([Pair((0,), (1,) * 129)])


def test_progress_ends_at_one(checkpoint, pairs):
    seen: list[float] = []
    Scorer(checkpoint.model, LENGTH, 100).score(pairs, seen.append)
    assert seen == sorted(seen) and len(seen) > 3 and seen[-1] == pytest.approx(1)


def test_an_export_that_is_not_whole_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"exports.json: lists no exported checkpoint"):
        exports.find_exports(tmp_path)
    (tmp_path / "exports" / "7").mkdir(parents=True)
    (tmp_path / "exports" / "7" / "config.json").write_text("{}")
    listing = '[{"step": 7, "tokens": 70, "path": "exports/7"}]'
    (tmp_path / "exports.json").write_text(listing)
    with pytest.raises(ArtifactError, match=r"exports/7: no tokenizer.json, model.safetensors"):
        exports.find_exports(tmp_path)
