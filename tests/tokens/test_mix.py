"""Mixtures: the shares that were asked for, the same bytes always, copies that stay on their side of the split."""

import itertools
import json
import random
from collections import Counter

import pytest

from llmhpc.config import Stage
from llmhpc.errors import ConfigError, StageError
from llmhpc.jobs import mix, shuffle, tokenize, tokenizer
from llmhpc.tokens.shards import REPEAT, place


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, write_documents, prose):
    """Three sets of 200, 50 and 30 documents; those of the last are short."""
    base = tmp_path_factory.mktemp("sets")
    sets = {"web": prose(200), "wiki": prose(50, seed=1), "code": prose(30, words=40, seed=2)}
    for name, documents in sets.items():
        for document in documents:
            document["id"] = f"{name}-{document['id']}"
    return {name: write_documents(base / name, docs) for name, docs in sets.items()}


def size(documents):
    return sum(len(document["text"].encode()) for document in documents)


def parts_of(documents):
    return {
        name: [d for d in documents if d["metadata"]["mix"] == name]
        for name in sorted({d["metadata"]["mix"] for d in documents})
    }


WEIGHTS = {"web": 0.5, "wiki": 0.3, "code": 0.2}
REPEATS = {"wiki": 2.0, "code": 10.0}


def test_a_mixture_has_the_shares_that_were_asked_for(tmp_path, inputs, run_stage, read_documents):
    cfg = mix.Config(weights=WEIGHTS, repeats=REPEATS, ranks=2)
    counts = run_stage(cfg, inputs, tmp_path)
    documents = read_documents(tmp_path)
    parts = parts_of(documents)
    total = size(documents)
    for name, weight in WEIGHTS.items():
        assert abs(size(parts[name]) / total - weight) < 0.01, name
    record = json.loads((tmp_path / "mixture.json").read_text())
    assert record["tokens_are"] == "bytes of text / bytes_per_token"
    assert record["parts"]["wiki"]["read"] == 2  # it is what limits the others
    assert record["parts"]["code"]["tokens"] == pytest.approx(size(parts["code"]) / 4, abs=1)
    assert counts["mixed_documents"] == {name: len(part) for name, part in parts.items()}


def test_tokens_limit_a_mixture_and_no_document_comes_more_often_than_another_by_two(
    tmp_path, inputs, run_stage, read_documents
):
    cfg = mix.Config(
        weights={"web": 1, "wiki": 3, "code": 1}, repeats=REPEATS, mixture_tokens=10_000
    )
    run_stage(cfg, inputs, tmp_path)
    documents = read_documents(tmp_path)
    assert size(documents) / 4 == pytest.approx(10_000, rel=0.02)
    times = Counter(document["id"].partition(REPEAT)[0] for document in documents)
    code = [times[d["id"]] for d in read_documents(inputs["code"])]
    assert set(code) <= {min(code), min(code) + 1}
    assert len({document["id"] for document in documents}) == len(documents)


def test_the_bytes_of_a_mixture_depend_on_the_seed_alone(tmp_path, inputs, run_stage, files_of):
    cfg = mix.Config(weights=WEIGHTS, repeats=REPEATS, ranks=3)
    for name, how in {"a": {}, "b": {"backwards": True}, "c": {"seed": 1}}.items():
        run_stage(cfg, inputs, tmp_path / name, **how)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b") != files_of(tmp_path / "c")
    shuffled = {}
    for ranks in (1, 3):
        mixed = tmp_path / f"mixed-{ranks}"
        run_stage(mix.Config(weights=WEIGHTS, repeats=REPEATS, ranks=ranks), inputs, mixed)
        run_stage(shuffle.Config(), {"documents": mixed}, tmp_path / f"shuffled-{ranks}")
        shuffled[ranks] = files_of(tmp_path / f"shuffled-{ranks}")
    assert shuffled[1] == shuffled[3]


def test_copies_are_spread_and_held_out_together_once(tmp_path, inputs, run_stage, read_documents):
    cfg = mix.Config(weights={"wiki": 1}, repeats={"wiki": 3})
    run_stage(cfg, {"wiki": inputs["wiki"]}, tmp_path / "mix")
    run_stage(shuffle.Config(), {"documents": tmp_path / "mix"}, tmp_path / "shuffle")
    ids = [d["id"].partition(REPEAT)[0] for d in read_documents(tmp_path / "shuffle")]
    assert len(ids) == 150 and Counter(Counter(ids).values()) == {3: 50}
    assert sum(a == b for a, b in itertools.pairwise(ids)) < 15  # 150 * 2 / 149 by chance
    fraction = {"heldout_fraction": 0.2}
    steps = {"documents": tmp_path / "shuffle", "tokenizer": tmp_path / "tokenizer"}
    run_stage(tokenizer.Config(vocab_size=400, **fraction), steps, tmp_path / "tokenizer")
    counts = run_stage(tokenize.Config(**fraction), steps, tmp_path / "tokens")
    heldout = {name for name in ids if place(name) < 0.2}
    assert counts["heldout_documents"] == len(heldout) > 0
    assert counts["documents"] == 150 - 2 * len(heldout)


def test_tokens_are_counted_where_there_is_a_tokenizer(tmp_path, inputs, run_stage, read_documents):
    run_stage(
        tokenizer.Config(vocab_size=400), {"documents": inputs["web"]}, tmp_path / "tokenizer"
    )
    both = {name: inputs[name] for name in ("web", "wiki")} | {"tokenizer": tmp_path / "tokenizer"}
    run_stage(mix.Config(weights={"web": 1, "wiki": 1}), both, tmp_path / "mix")
    from llmhpc.tokens.encode import open_encoder

    encoder = open_encoder(tmp_path / "tokenizer", "auto")
    record = json.loads((tmp_path / "mix" / "mixture.json").read_text())
    for name, part in parts_of(read_documents(tmp_path / "mix")).items():
        tokens = sum(len(row) for row in encoder.encode([d["text"] for d in part]))
        assert tokens == record["parts"][name]["tokens"]
    assert record["tokens_are"] == "tokens of the tokenizer"


def test_what_does_not_go_together_is_named(tmp_path, inputs, run_stage):
    played = dict.fromkeys(("web", "wiki"), Stage(kind="dedup"))
    with pytest.raises(ConfigError, match="weights.wiki is not set"):
        mix.Config(weights={"web": 1}).check_with(played)
    with pytest.raises(ConfigError, match="repeats.books: one of needs, web, wiki"):
        mix.Config(weights={"web": 1, "wiki": 1}, repeats={"books": 2}).check_with(played)
    with pytest.raises(ConfigError, match="needs: a name and a stage for each input"):
        mix.Config().check_with({})
    with pytest.raises(ConfigError, match="weights.web=-1"):
        mix.Config(weights={"web": -1})
    cfg = mix.Config(weights=WEIGHTS, repeats={"code": 10}, mixture_tokens=60_000)
    with pytest.raises(
        StageError,
        match=r"mixture_tokens=60000: wiki has [\d,]+ and would be read [12]\.\d+ times; \d+ or fewer, or repeats.wiki=[12]",
    ):
        run_stage(cfg, inputs, tmp_path)


def test_the_hint_of_an_impossible_mixture_leads_to_a_possible_one(tmp_path, inputs, run_stage):
    with pytest.raises(StageError) as error:
        run_stage(mix.Config(weights=WEIGHTS, mixture_tokens=10**6), inputs, tmp_path / "a")
    fewer = int(str(error.value).split("; ")[1].split()[0])
    run_stage(mix.Config(weights=WEIGHTS, mixture_tokens=fewer), inputs, tmp_path / "b")


def test_random_weights_are_met_within_a_document(tmp_path, inputs, run_stage, read_documents):
    rng = random.Random(7)
    weights = {name: rng.uniform(0.1, 1) for name in inputs}
    run_stage(mix.Config(weights=weights, repeats=dict.fromkeys(inputs, 3.0)), inputs, tmp_path)
    documents = read_documents(tmp_path)
    for name, part in parts_of(documents).items():
        longest = max(len(d["text"].encode()) for d in part)
        wanted = weights[name] / sum(weights.values()) * size(documents)
        assert abs(size(part) - wanted) <= 2 * longest
