import numpy as np
import pytest
import yaml

from llmhpc.errors import ArtifactError
from llmhpc.evals.judging import tables
from llmhpc.evals.judging.picking import pick, smoothed


def lines(values, task="arc", form="cloze", chance=0.25, higher=True, headline=True):
    return [
        {
            "step": 10 * (n + 1), "tokens": 1000 * (n + 1), "checkpoint": f"exports/{10 * (n + 1):06d}",
            "task": task, "form": form, "metric": "acc", "value": value, "stderr": 0.0123,
            "chance": chance, "items": 1200, "higher_is_better": higher, "headline": headline,
        }
        for n, value in enumerate(values)
    ]  # fmt: skip


def test_a_single_peak_of_noise_is_not_picked():
    values = [0.3, 0.5, 0.3, 0.42, 0.43, 0.42, 0.35]
    assert pick(lines(values), window=1).step == 20
    assert pick(lines(values), window=3).step == 50


def test_of_equals_the_later_is_picked():
    assert pick(lines([0.3, 0.5, 0.5]), window=1).step == 30


def test_tasks_weigh_alike_above_their_chance():
    """Of two choices half is chance: 0.5 to 0.75 is as much as 0.25 to 0.625 of four."""
    scores = lines([0.25, 0.625]) + lines([0.75, 0.5], task="yes", chance=0.5)
    found = pick(scores, window=1)
    assert [point["score"] for point in found.curve] == pytest.approx([0.25, 0.25])
    assert found.step == 20


def test_texts_count_only_where_nothing_else_does_and_fewer_bits_are_better():
    bits = lines([3.0, 1.0, 2.0], task="pages", form="text", chance=None, higher=False)
    assert pick(bits, window=1).step == 20
    assert pick(bits + lines([0.3, 0.3, 0.4]), window=1).step == 30


def test_only_kept_tasks_and_their_headlines_count():
    scores = lines([0.5, 0.3]) + lines([0.3, 0.5], task="sci") + lines([0.9, 0.0], headline=False)
    assert pick(scores, [("sci", "cloze")], window=1).step == 20
    assert pick(scores, [("arc", "cloze")], window=1).tasks == ["arc/cloze"]
    assert "0.3333 over 1 checkpoints in arc/cloze" in pick(scores, [("arc", "cloze")], 1).reason


def test_a_checkpoint_without_a_score_of_every_task_is_not_picked():
    assert pick(lines([0.3, 0.3, 0.9]) + lines([0.4, 0.5], task="sci"), window=1).step == 20
    apart = [line | {"tokens": line["tokens"] + 1} for line in lines([0.5], task="sci")]
    with pytest.raises(ArtifactError, match="no checkpoint has a score of every task"):
        pick(lines([0.5]) + apart)


def test_smoothing_keeps_a_straight_line_and_both_ends():
    line = [float(n) for n in range(9)]
    assert smoothed(np.array(line), 5) == pytest.approx(line)


def test_the_table_shows_final_scores_with_their_errors():
    scores = lines([0.3, 0.4213]) + lines([2.5, 1.25], "pages", "text", None, higher=False)
    shown = tables.markdown(scores).splitlines()
    assert shown[2] == "| arc | cloze | acc ↑ | 0.4213 ± 0.0123 | 0.25 | 1,200 |"
    assert shown[3] == "| pages | text | acc ↓ | 1.2500 ± 0.0123 |  | 1,200 |"
    assert "0.3000" in tables.markdown(scores, step=10)


def test_the_files_for_a_model_card_are_of_the_checkpoint_that_is_asked_for(tmp_path):
    tables.write(tmp_path, lines([0.3, 0.4213]), "tiny", step=10)
    assert "| 0.3000 ± 0.0123 |" in (tmp_path / "scores.md").read_text()
    (model,) = yaml.safe_load((tmp_path / "model_index.yaml").read_text())["model-index"]
    assert model["name"] == "tiny"
    assert model["results"][0]["metrics"][0]["value"] == 0.3


def test_the_model_index_is_read_back_by_the_hubs_library():
    from huggingface_hub import ModelCard

    scores = lines([0.3, 0.4213]) + lines([2.5, 1.25], "pages", "text", None, higher=False)
    block = tables.model_index(scores, "tiny")
    card = ModelCard(f"---\n{block}\n---\n# tiny\n")
    first, second = card.data.eval_results
    assert (first.dataset_name, first.metric_value) == ("arc", 0.4213)
    assert first.metric_name == "acc (cloze, standard error 0.0123, chance 0.25, 1200 items)"
    assert second.metric_value == 1.25
    assert yaml.safe_load(block)["model-index"][0]["name"] == "tiny"
