"""Marks, gates and seals: nothing half-written is taken for whole."""

import json

import pytest

from llmhpc.errors import ArtifactError
from llmhpc.handoff import artifact


def placed(home, rank, text, counts):
    scratch = home / "scratch" / str(rank)
    (scratch / "documents").mkdir(parents=True)
    (scratch / "documents" / f"{rank:05d}.txt").write_text(text)
    artifact.place(scratch, home, phase="main", rank=rank, counts=counts)


def test_a_rank_is_missing_until_its_files_are_placed(tmp_path):
    placed(tmp_path, 1, "one", {})
    assert artifact.missing_ranks(tmp_path, "main", 3) == [0, 2]
    assert (tmp_path / "documents" / "00001.txt").read_text() == "one"
    with pytest.raises(ArtifactError, match=r"ranks \[0, 2\] of 3"):
        artifact.check_marks(tmp_path, "main", 3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "is not there"),
        (lambda p: p.write_text("one more"), "has 8 bytes, not 3"),
        (lambda p: p.write_text("two"), "differs from the file that its rank wrote"),
    ],
)
def test_a_damaged_file_is_found_before_the_seal(tmp_path, damage, message):
    placed(tmp_path, 0, "one", {})
    artifact.check_marks(tmp_path, "main", 1)
    damage(tmp_path / "documents" / "00000.txt")
    with pytest.raises(ArtifactError, match=message):
        artifact.check_marks(tmp_path, "main", 1)


def test_counts_of_ranks_add_up_through_nested_tables():
    parts = [
        {"documents": 1, "rules": {"a": {"kept": 1}}},
        {"documents": 2, "rules": {"b": {"kept": 3}}},
    ]
    assert artifact.add_up(parts) == {"documents": 3, "rules": {"a": {"kept": 1}, "b": {"kept": 3}}}


def test_text_counts_must_agree():
    assert artifact.add_up([{"dtype": "uint16"}, {"dtype": "uint16"}]) == {"dtype": "uint16"}
    with pytest.raises(ArtifactError, match="ranks disagree, uint16 and uint32"):
        artifact.add_up([{"dtype": "uint16"}, {"dtype": "uint32"}])


def test_json_is_never_half_written(tmp_path):
    from llmhpc.files import read_json, write_json

    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {("not", "a key"): 1})
    assert read_json(tmp_path / "a.json") == {"x": 1}
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
