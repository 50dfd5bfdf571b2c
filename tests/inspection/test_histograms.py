import math

from hypothesis import given
from hypothesis import strategies as st

from llmhpc.inspection.histograms import Histograms, high_edge, low_edge
from llmhpc.inspection.piles import Piece

NUMBERS = st.one_of(st.integers(-(10**12), 10**12), st.floats(-1e300, 1e300).filter(
    lambda x: x == 0 or abs(x) > 1e-300))  # fmt: skip


@given(NUMBERS)
def test_a_number_lies_in_its_bin_and_bins_are_narrow_and_meet(value):
    low = low_edge(value)
    high = high_edge(low)
    assert low <= value < high or low < value <= high or value == low == high == 0
    assert low_edge(-value) == -high and high_edge(-high) == -low
    assert high - low <= abs(value) / 16 * (1 + 1e-9) or high - low <= abs(high) / 16
    assert low <= 0 or low_edge(low) == low == low_edge(math.nextafter(high, low))


def document(value):
    return Piece(step="s", fate="kept", size=3, text="abc", metadata={"score": value, "url": "x"})


@given(st.lists(NUMBERS, min_size=1), st.integers(0))
def test_histograms_of_parts_add_up_to_that_of_all(values, cut):
    cut %= len(values) + 1
    one, two, whole = Histograms(), Histograms(), Histograms()
    for number, value in enumerate(values):
        (one if number < cut else two).add(document(value), None)
        whole.add(document(value), None)
    one.merge(two.record())
    assert one.record() == whole.record()
    assert [sum(n for *_, n in h["bins"]) for h in one.record()] == [len(values)] * 2


def test_what_is_no_number_or_no_document_is_left_out():
    histograms = Histograms()
    histograms.add(document(math.nan), 5)
    histograms.add(document(True), None)
    histograms.add(Piece(step="s", fate="pii", size=3, text="abc", whole=False), 1)
    histograms.add(Piece(step="s", fate="kept", size=3, text=None), 0)
    assert {(h["fate"], h["of"]): h["bins"] for h in histograms.record()} == {
        ("kept", "characters"): [[3.0, 3.125, 2]], ("kept", "tokens"): [[5.0, 5.25, 1]],
    }  # fmt: skip
