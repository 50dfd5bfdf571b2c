"""A real small model in this process: the same texts whatever the ranks, the restarts and the order."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from llmhpc.errors import ConfigError, StageError
from llmhpc.generation import Sampling
from llmhpc.generation.backends import open_backend, transformers
from llmhpc.jobs import generate

from .conftest import WORDS, lessons

POSITIONS = 96
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}{% if add_generation_prompt %}[it]{% endif %}"


def save(folder, chat_template=None):
    """A Llama of 30 thousand parameters whose weights are drawn, wide enough that its answers vary."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([WORDS] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<end>", eos_token="<end>")
    tokenizer.chat_template = chat_template
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=POSITIONS, bos_token_id=0, eos_token_id=0,
        initializer_range=0.4,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "exports" / "000100")


def stage(model, *, ranks=1, batch_size=4, recipe=None, **sampling):
    sampling = {"max_new_tokens": 24, "temperature": 1.0} | sampling
    template = "{style}{topic}{audience}"
    return generate.Config(
        recipe=recipe or lessons(template=template),
        backend=transformers.Config(model=str(model), batch_size=batch_size),
        sampling=Sampling(**sampling),
        ranks=ranks,
        keep_truncated=True,
    )


def texts_of(documents):
    return {d["id"]: d["text"] for d in documents}


@pytest.mark.slow
def test_the_same_texts_whatever_the_ranks(model, run_stage, read_documents, tmp_path):
    made = []
    for ranks in (1, 2, 5):
        counts = run_stage(
            stage(model, ranks=ranks), {}, tmp_path / str(ranks), backwards=ranks > 1
        )
        made.append(texts_of(read_documents(tmp_path / str(ranks))))
        assert counts["documents_in"] == 24
        assert counts["documents"] == len(made[-1]) > 18
    assert made[0] == made[1] == made[2]
    assert len(set(made[0].values())) > 18
    document = read_documents(tmp_path / "1")[0]
    assert document["metadata"]["model"].endswith("exports/000100")
    assert document["metadata"]["finish_reason"] in ("length", "stop")


@pytest.mark.slow
def test_a_task_that_was_cut_ends_with_the_same_bytes(
    model, run_stage, files_of, monkeypatch, tmp_path
):
    run_stage(stage(model), {}, tmp_path / "whole")
    from llmhpc.generation.journal import Journal

    add, added = Journal.add, []

    def fails(self, answers):
        if len(added) == 3:
            # the write of a batch can be cut inside
            add(self, answers[:2])
            raise RuntimeError("power cut")
        added.append(add(self, answers))

    monkeypatch.setattr(Journal, "add", fails)
    with pytest.raises(RuntimeError, match="power cut"):
        run_stage(stage(model), {}, tmp_path / "cut")
    monkeypatch.undo()
    (tmp_path / "cut" / "scratch").rename(tmp_path / "old")
    run_stage(stage(model), {}, tmp_path / "cut")
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_a_draw_depends_on_its_own_seed_alone(model):
    """Neighbours change the last digits of the logits: here that changes no token of 24."""
    cfg = stage(model)
    ask = open_backend(cfg.backend, cfg.sampling, None, 0)
    group = [(f"{WORDS[: 9 * n]}", 100 + n) for n in range(6)]
    together = ask(group)
    assert [ask([request])[0] for request in group] == together
    assert ask(group[::-1])[::-1] == together
    assert ask([(group[3][0], 7)])[0].text != together[3].text


def test_draws_follow_the_distribution(model):
    """First tokens of many seeds, against the model's own probabilities at this temperature and top_p."""
    sampling = Sampling(max_new_tokens=1, temperature=0.7, top_p=0.8)
    cfg = transformers.Config(model=str(model))
    answers = open_backend(cfg, sampling, None, 0)([("the river", seed) for seed in range(4000)])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    tokens = torch.tensor([[0, *tokenizer("the river")["input_ids"]]])
    logits = AutoModelForCausalLM.from_pretrained(model)(tokens).logits[0, -1] / 0.7
    wanted, order = logits.softmax(-1).sort(descending=True)
    wanted[wanted.cumsum(0) - wanted >= 0.8] = 0
    wanted /= wanted.sum()
    expected: dict[str, float] = {}
    for token, probability in zip(order.tolist(), wanted.tolist(), strict=True):
        text = tokenizer.decode([token], skip_special_tokens=True)
        expected[text] = expected.get(text, 0.0) + probability
    seen = {text: sum(a.text == text for a in answers) / 4000 for text in expected}
    assert sum(seen.values()) == 1
    assert max(abs(seen[text] - share) for text, share in expected.items()) < 0.03
    assert all(share == 0 for text, share in seen.items() if not expected[text])


def test_without_temperature_the_answer_is_transformers_own(model):
    greedy = Sampling(max_new_tokens=12, temperature=0)
    (answer,) = open_backend(transformers.Config(model=str(model)), greedy, None, 0)([("under", 5)])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    tokens = torch.tensor([[0, *tokenizer("under")["input_ids"]]])
    out = AutoModelForCausalLM.from_pretrained(model).generate(
        tokens, max_new_tokens=12, do_sample=False
    )
    assert answer.text == tokenizer.decode(out[0, tokens.shape[1] :], skip_special_tokens=True)


def test_a_chat_template_is_used_where_there_is_one(tmp_path):
    folder = save(tmp_path / "chat", TEMPLATE)
    greedy = Sampling(max_new_tokens=8, temperature=0)
    (chat,) = open_backend(transformers.Config(model=str(folder)), greedy, None, 0)([("river", 1)])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    assert chat.prompt_tokens == len(
        tokenizer("[user] river[it]", add_special_tokens=False)["input_ids"]
    )


def test_a_prompt_without_room_for_an_answer_is_set_aside(
    model, run_stage, read_documents, tmp_path
):
    recipe = lessons(
        topics={"short": "x", "long": WORDS}, template="{topic}{audience}{style}", each=1
    )
    counts = run_stage(stage(model, recipe=recipe, max_new_tokens=60), {}, tmp_path)
    assert counts["reasons"]["rejected"] == 4
    why = {d["metadata"]["dropped_because"] for d in read_documents(tmp_path, "removed/rejected")}
    assert all("60 new ones: the model has 96 positions" in line for line in why)


def test_the_model_of_a_training_step_is_its_last_or_the_one_that_is_named(
    tmp_path, run_stage, read_documents
):
    train = tmp_path / "train-12345678"
    listed = []
    for number in (100, 50):
        save(train / "exports" / f"{number:06d}")
        listed.append({"step": number, "tokens": number, "path": f"exports/{number:06d}"})
    (train / "exports.json").write_text(json.dumps(listed))
    for export, name in ((0, "000100"), (50, "000050")):
        cfg = stage("", recipe=lessons(each=1, template="{style}{topic}{audience}"))
        cfg.backend.export = export
        run_stage(cfg, {"model": train}, tmp_path / name)
        models = {d["metadata"]["model"] for d in read_documents(tmp_path / name)}
        assert models == {f"train-12345678/exports/{name}"}


def test_a_model_that_is_not_there_is_named(model, tmp_path):
    with pytest.raises(ConfigError, match=r"model=/no/model: no config.json there"):
        transformers.Config(model="/no/model").before_launch()
    transformers.Config(model=str(model)).before_launch()
    with pytest.raises(ConfigError, match="needs.model has one already"):
        transformers.Config(model="x").check_model(True)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StageError, match=f"{tmp_path}: transformers cannot read it"):
        open_backend(transformers.Config(model=str(tmp_path)), Sampling(), None, 0)
