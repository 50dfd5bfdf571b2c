import pytest
import zstandard

from llmhpc.errors import ArtifactError
from llmhpc.evals.material.heldout import Document, cut_to_budget, read_documents


def test_documents_are_read_in_the_order_of_the_file(tokens_step):
    documents = read_documents(tokens_step / "heldout" / "documents.jsonl.zst")
    assert [document.id for document in documents] == [f"<page:{n}>" for n in range(24)]
    assert all(document.text.endswith("Näh!") for document in documents)


def test_short_documents_stay_whole_and_long_ones_share_what_is_left():
    documents = [Document("a", "x" * 10), Document("b", "y" * 1000), Document("c", "z" * 500)]
    assert [len(d.text) for d in cut_to_budget(documents, 210)] == [10, 100, 100]
    assert cut_to_budget(documents, 1510) == documents


def test_a_cut_is_made_between_characters():
    assert cut_to_budget([Document("a", "ää" * 10)], 7)[0].text == "äää"


def test_a_file_that_is_missing_or_empty_or_wrong_is_named(tmp_path):
    path = tmp_path / "documents.jsonl.zst"
    with pytest.raises(ArtifactError, match=r"documents.jsonl.zst: not there"):
        read_documents(path)
    path.write_bytes(zstandard.ZstdCompressor().compress(b""))
    with pytest.raises(ArtifactError, match="no document; hold out more"):
        read_documents(path)
    path.write_bytes(
        zstandard.ZstdCompressor().compress(b'{"text": "a", "id": "1"}\n{"text": 3}\n')
    )
    with pytest.raises(ArtifactError, match="zst:2: needs a text and an id"):
        read_documents(path)
