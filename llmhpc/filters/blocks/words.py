"""spaCy's words and sentences, each distinct stretch between blanks split only once, in a fraction of the time.

The words are the same but for one thing: spaCy puts emoticons together even over a blank, so that "[1]:) )" is [ 1 ] : ) )
to it, and here [ 1 ] :) ). That can move a rule's decision where a value lies at its limit; of 1,838 texts of the web and of documentation
none was decided otherwise.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import spacy
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import SpaCyTokenizer, load_word_tokenizer
from spacy.attrs import IDX, LENGTH
from spacy.lang.lex_attrs import is_punct
from spacy.vocab import Vocab

from llmhpc.filters import Splitter

# a word, brackets around it, and the mark behind it: spaCy parts them so, but for its exceptions
SIMPLE = re.compile(r"(\(?)([A-Za-z]+[a-z])(\)?)([.,;:!?]?)|([A-Za-z]+)")
STRETCH = re.compile(r"\S+")
REMEMBERED = 1 << 19  # stretches, about 200 MB; then all are forgotten
# of spaCy's suffixes: one of these is one of its own; letters are a unit behind a number or an 's; only dots are as many as DOTS
MARK = re.compile(r"[,;:!?()\[\]{}]\Z")
NO_SUFFIX = re.compile(r"(?:[-_.=,(\[{:\"`@#~<>*&|]|[A-Za-z]{5})[A-Za-z]+\Z")
DOTS = "." * 8
BREAKS_SPACY = "IS_ALPHA"  # of such texts datatrove splits the rest


Search = Callable[..., re.Match[str] | None]  # text, and from where on


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
        # a vocabulary that works out no shapes and flags of words: those take most of spaCy's time
        self._pipeline = spacy.blank(str(words.language), vocab=Vocab())
        tokenizer: Any = self._pipeline.tokenizer
        tokenizer.suffix_search = at_end(tokenizer.suffix_search)
        self._exceptions = frozenset(words.tokenizer.tokenizer.rules)
        self._ends = words.tokenizer.get_pipe("sentencizer").punct_chars
        self._whole_words, self._whole_spans = words.word_tokenize, words.span_tokenize
        # tuples: the garbage collector would look through as many lists again and again
        self._words: dict[str, tuple[str, ...]] = {}

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
        if BREAKS_SPACY in text or not text or text != text.strip():
            return self._whole_spans(text)
        self._learn(text.split())
        spans, begun, behind, stopped = [], 0, 0, False
        for stretch in STRETCH.finditer(text):
            at = stretch.start()
            if stopped and text[behind:at] not in ("", " "):  # more than a blank is a token
                spans.append((begun, behind))
                begun, stopped = behind + (text[behind] == " "), False
            for word in self._words[stretch.group()]:
                if word in self._ends:
                    stopped = True
                elif stopped and not is_punct(word):
                    spans.append((begun, behind))
                    begun, stopped = at, False
                at += len(word)
                behind = at
        return [*spans, (begun, behind)]

    def _learn(self, stretches: list[str]) -> None:
        new = set(stretches).difference(self._words)
        if len(self._words) + len(new) > REMEMBERED:
            self._words.clear()
            new = set(stretches)
        hard = []
        for stretch in new:
            simple = SIMPLE.fullmatch(stretch)
            parts = tuple(filter(None, simple.groups())) if simple else ()
            if parts and self._exceptions.isdisjoint((stretch, *parts, "".join(parts[-2:]))):
                self._words[stretch] = parts
            else:
                hard.append(stretch)
        if hard:
            self._words.update(zip(hard, self._split(hard), strict=True))

    def _split(self, stretches: list[str]) -> list[tuple[str, ...]]:
        """spaCy's words of each stretch; between lines it keeps nothing together."""
        text = "\n".join(stretches)
        with self._pipeline.memory_zone():
            starts, lengths = self._pipeline.tokenizer(text).to_array([IDX, LENGTH]).T.tolist()
        words = [
            text[start : start + length] for start, length in zip(starts, lengths, strict=True)
        ]
        found, begun = [], 0
        for stretch in stretches:
            size, end = len(stretch), begun
            while size:
                size -= lengths[end]
                end += 1
            found.append(tuple(words[begun:end]))
            begun = end + 1  # behind the line's end
        return found


def at_end(search: Search) -> Search:
    """The same as the search for spaCy's English suffixes, which goes through 83 of them at every place."""

    def find(text: str) -> re.Match[str] | None:
        near = max(0, len(text) - len(DOTS))
        if mark := MARK.search(text, max(0, len(text) - 1)):
            return mark
        if text.endswith(DOTS):
            return search(text)
        return None if NO_SUFFIX.search(text, near) else search(text, near)

    return find


def _cuts_at_blanks(words: SpaCyTokenizer) -> bool:
    """Whether this is spaCy's rule-based tokenizer without exceptions that span a blank: its first act is to cut there."""
    from spacy.tokenizer import Tokenizer

    tokenizer = words.tokenizer.tokenizer
    return type(tokenizer) is Tokenizer and not any(len(r.split()) > 1 for r in tokenizer.rules)
