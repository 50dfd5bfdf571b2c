"""Which requests there are follows from settings and inputs alone, in the counts that were asked for."""

from collections import Counter

import pytest

from llmhpc.errors import ConfigError
from llmhpc.generation.recipes import parts, rephrase, share_of
from llmhpc.planning.compose import compose
from llmhpc.planning.plan import plan

from .conftest import lessons, restyle


def requests_of(cfg, documents=None, ranks=1, size=1):
    """The requests of each rank."""
    shared = parts(cfg, documents)
    return [
        [request for group in share_of(shared, size, rank, ranks) for request in group]
        for rank in range(ranks)
    ]


def test_every_combination_is_asked_for_as_often_as_the_counts_say():
    cfg = lessons(each=2, counts={"*/children/*": 1, "maps/*/story": 5, "sound/adults/lesson": 0})
    (found,) = requests_of(cfg)
    cells = Counter((r.parts["topic"], r.parts["audience"], r.parts["style"]) for r in found)
    assert cells == {
        ("soil", "children", "lesson"): 1, ("soil", "children", "story"): 1,
        ("soil", "adults", "lesson"): 2, ("soil", "adults", "story"): 2,
        ("sound", "children", "lesson"): 1, ("sound", "children", "story"): 1,
        ("sound", "adults", "story"): 2,
        ("maps", "children", "lesson"): 1, ("maps", "children", "story"): 5,
        ("maps", "adults", "lesson"): 2, ("maps", "adults", "story"): 5,
    }  # fmt: skip
    assert len(found) == cfg.requests(0, 0)
    assert len({r.place for r in found}) == len(found)
    assert found[0].prompt == "Write a lesson.\n\nSubject: how soil forms\nAudience: a child"


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", ["cosmopedia", "rephrase"])
@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_ranks_share_the_requests_and_change_none(
    kind, ranks, size, prose, write_documents, tmp_path
):
    home = write_documents(tmp_path / "pages", prose(20, words=150))
    seeded = lessons(
        seed_template="From: {text}", template="{style} {topic} {audience} {seed}", each=1
    )
    cfg = seeded if kind == "cosmopedia" else restyle()
    (alone,) = requests_of(cfg, home, size=size)
    shares = requests_of(cfg, home, ranks, size)
    assert sorted(r.place for share in shares for r in share) == sorted(r.place for r in alone)
    assert {r.place: r for share in shares for r in share} == {r.place: r for r in alone}
    assert sum(map(bool, shares)) == min(ranks, 12 // size if kind == "cosmopedia" else ranks)
    whole = {frozenset(r.place for r in g) for g in share_of(parts(cfg, home), size, 0, 1)}
    for rank in range(ranks):
        mine = share_of(parts(cfg, home), size, rank, ranks)
        assert {frozenset(r.place for r in group) for group in mine} <= whole


def test_seed_texts_are_the_same_whatever_the_shards(prose, write_documents, tmp_path):
    cfg = lessons(seed_template="From: {text}", template="{style}{topic}{audience}{seed}",
                  seed_texts=5, seed_characters=40)  # fmt: skip
    one, other = (
        requests_of(cfg, write_documents(tmp_path / str(n), prose(30), shards=n))[0] for n in (1, 4)
    )
    assert one == other
    assert Counter(Counter(r.parts["seed_id"] for r in one).values()) == {5: 4, 4: 1}
    texts = {d["id"]: d["text"] for d in prose(30)}
    for request in one:
        assert texts[request.parts["seed_id"]][:40].strip() in request.prompt
        assert request.parts["seed_url"].startswith("https://example.org/")


def test_passages_hold_the_whole_text_and_end_where_the_most_ends():
    cfg = restyle(passage_characters=100, passage_characters_min=20)
    text = (
        "First paragraph of it.\n\nThe second one, which is longer. "
        + "It goes on and on. " * 8
        + "\nEnd."
    )
    found = list(rephrase.passages(text, cfg))
    assert found[0] == "First paragraph of it."
    assert all(20 <= len(passage) <= 100 for passage in found)
    assert (
        "".join("".join(found).split())
        == "".join(text.split())[: len("".join("".join(found).split()))]
    )
    assert list(rephrase.passages("x" * 250, cfg)) == ["x" * 100, "x" * 100, "x" * 50]
    assert list(rephrase.passages("too short", cfg)) == []


def test_a_style_gets_its_share_of_the_passages(prose, write_documents, tmp_path):
    home = write_documents(tmp_path / "pages", prose(300, words=60))
    cfg = restyle(shares={"concise": 0.25}, documents_share=0.5, passage_characters=1000)
    (found,) = requests_of(cfg, home)
    styles = Counter(r.parts["style"] for r in found)
    assert 120 <= styles["simple"] <= 180
    assert 0.15 < styles["concise"] / styles["simple"] < 0.35


@pytest.mark.parametrize(("settings", "message"), [
    ({"topics": {}}, "topics is empty"),
    ({"topics": {"a/b": "x"}}, "topics.a/b: a name without /"),
    ({"template": "{style} {topic}"}, "template: {audience} is missing"),
    ({"template": "{style} {topic} {audience} {place}"}, "template: {place} is missing or unknown"),
    ({"template": "{style} {topic} {audience} {"}, "template: .* a brace that is text is written twice"),
    ({"seed_template": "no text"}, "seed_template: {text} is missing"),
    ({"counts": {"mathematics/*/*": 3}}, "fits no topic/audience/style"),
    ({"counts": {"soil/*/*": -1}}, "counts.soil.*=-1: 0 or more"),
    ({"each": 0}, "no combination is asked for"),
])  # fmt: skip
def test_a_wrong_setting_of_cosmopedia_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        lessons(**settings)


@pytest.mark.parametrize(("settings", "message"), [
    ({"styles": {}}, "styles is empty"),
    ({"styles": {"simple": "Say it simply."}}, "styles.simple: {text} is missing"),
    ({"shares": {"verse": 0.5}}, "shares.verse: one of styles, simple, concise"),
    ({"shares": {"simple": 1.5}}, "shares.simple=1.5: a fraction"),
    ({"documents_share": -1}, "documents_share=-1: a fraction"),
])  # fmt: skip
def test_a_wrong_setting_of_rephrase_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        restyle(**settings)


@pytest.mark.parametrize(("words", "message"), [
    (["stage/generate@stages.generate=cosmopedia", "stages.generate.recipe.seed_template=''"], "recipe.seed_template is empty: needs.documents"),
    (["~stages.generate.needs.documents"], "stages.generate.needs.documents is not set"),
    (["backend@stages.generate.backend=transformers", "stages.generate.backend.model=''"],
     "stages.generate.backend.model is not set"),
])  # fmt: skip
def test_the_plan_says_what_a_stage_lacks(words, message):
    with pytest.raises(ConfigError, match=message):
        plan(compose(["pipeline=synthetic", *words]))


def test_the_dry_run_says_how_much_will_be_asked():
    words = ["pipeline=synthetic", "stage/generate@stages.generate=cosmopedia"]
    stage = compose(words).stages["generate"]
    assert stage.outline({}).startswith("about 144 requests with ")


def test_a_table_of_a_chosen_recipe_can_be_filled_on_the_command_line():
    words = ["pipeline=synthetic", "stages.generate.recipe.shares={simple: 0.5}"]
    assert compose(words).stages["generate"].recipe.shares == {"simple": 0.5}
    words = ["pipeline=synthetic", "stage/generate@stages.generate=cosmopedia"]
    counts = compose([*words, "stages.generate.recipe.counts={bread/*/*: 5}"]).stages["generate"]
    assert counts.recipe.requests(0, 0) == 5 * 12 + 5 * 12 * 2
