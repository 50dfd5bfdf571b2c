import pytest

from llmhpc.inspection.domains import domain_of


@pytest.mark.parametrize(("metadata", "domain"), [
    ({"url": "https://www.Example.org:8080/a?b#c", "source": "x.warc.gz"}, "example.org"),
    ({"url": "http://docs.example.org./"}, "docs.example.org"),
    ({"url": "https://[broken/", "source": "x.warc.gz"}, "x.warc.gz"),
    ({"url": "no address", "source": "books/7.epub"}, "books/7.epub"),
    ({"url": None, "repository": "owner/name", "source": "owner/name.git"}, "owner/name"),
    ({}, "unknown"),
])  # fmt: skip
def test_a_document_belongs_to_its_host_or_to_where_it_was_found(metadata, domain):
    assert domain_of(metadata) == domain
