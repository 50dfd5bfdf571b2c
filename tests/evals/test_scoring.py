import pytest
import torch

from llmhpc.errors import ArtifactError, StageError
from llmhpc.evals import exports
from llmhpc.evals.scoring import Pair, Scorer

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
    apart.row_tokens = 0
    wanted = [score.logprob for score in apart.score(pairs)]
    assert [s.logprob for s in shared.score(pairs)] == pytest.approx(wanted, abs=1e-5, rel=1e-6)


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
    with pytest.raises(ArtifactError, match=r"exports/7: no tokenizer.json, \*.safetensors"):
        exports.find_exports(tmp_path)
