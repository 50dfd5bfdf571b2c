"""spaCy's words and sentences, each distinct stretch between blanks split only once, in a fraction of the time.

The words are the same but for one thing: spaCy puts emoticons together even over a blank, so that "[1]:) )" is [ 1 ] : ) )
to it, and here [ 1 ] :) ). That can move a rule's decision where a value lies at its limit: the default is spaCy alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import SpaCyTokenizer, load_word_tokenizer

from llmhpc.filters import Splitter

REMEMBERED = 1 << 19  # stretches, about 200 MB; then all are forgotten
BREAKS_SPACY = "IS_ALPHA"  # of such texts datatrove splits the rest


@contextmanager
def splitting(by: Splitter) -> Iterator[None]:
    """While it is open, datatrove's blocks split English as ``by`` says."""
    words = load_word_tokenizer(Languages.english)  # the one object that all blocks ask
    if by is Splitter.spacy or not isinstance(words, SpaCyTokenizer) or not _cuts_at_blanks(words):
        yield
        return
    memory = Memory(words)
    words.word_tokenize = memory.word_tokenize  # type: ignore[method-assign]
    words.span_tokenize = memory.span_tokenize  # type: ignore[method-assign]
    try:
        yield
    finally:
        del words.word_tokenize, words.span_tokenize  # the class's own are there again


class Memory:
    """The words and sentences of ``words``, put together from stretches met before."""

    def __init__(self, words: SpaCyTokenizer) -> None:
        self._pipeline = words.tokenizer
        self._ends = words.tokenizer.get_pipe("sentencizer").punct_chars
        self._whole_words, self._whole_spans = words.word_tokenize, words.span_tokenize
        self._words: dict[str, list[str]] = {}
        self._marks: dict[str, list[tuple[int, bool, bool]]] = {}

    def word_tokenize(self, text: str) -> list[str]:
        """The words of ``text``, without blanks around them."""
        if BREAKS_SPACY in text:
            return self._whole_words(text)
        stretches = text.split()
        self._learn(stretches)
        return list(chain.from_iterable(map(self._words.__getitem__, stretches)))

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of each sentence by the rule of spaCy's sentencizer.

        A sentence ends where, behind a full stop or its like, a token comes that is no punctuation.
        """
        stretches = text.split(" ")
        # other blanks than single ones between words are tokens to spaCy
        if BREAKS_SPACY in text or stretches != text.split():
            return self._whole_spans(text)
        self._learn(stretches)
        spans, begun, at, behind, stopped = [], 0, 0, 0, False
        for stretch in stretches:
            for length, stops, is_punctuation in self._marks[stretch]:
                if stops:
                    stopped = True
                elif stopped and not is_punctuation:
                    spans.append((begun, behind))
                    begun, stopped = at, False
                at += length
                behind = at
            at += 1
        return [*spans, (begun, behind)]

    def _learn(self, stretches: list[str]) -> None:
        new = set(stretches).difference(self._words)
        if not new:
            return
        if len(self._words) + len(new) > REMEMBERED:
            self._words.clear()
            self._marks.clear()
            new = set(stretches)
        with self._pipeline.memory_zone():
            for stretch in new:
                tokens = self._pipeline.tokenizer(stretch)
                texts = [token.text for token in tokens]
                self._words[stretch] = [word for text in texts if (word := text.strip())]
                self._marks[stretch] = [
                    (len(token), token.text in self._ends, token.is_punct) for token in tokens
                ]


def _cuts_at_blanks(words: SpaCyTokenizer) -> bool:
    """Whether this is spaCy's rule-based tokenizer without exceptions that span a blank: its first act is to cut there."""
    from spacy.tokenizer import Tokenizer

    tokenizer = words.tokenizer.tokenizer
    return type(tokenizer) is Tokenizer and not any(len(r.split()) > 1 for r in tokenizer.rules)
