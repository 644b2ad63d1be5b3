"""Texts to the terms that BM25 counts: words, their stems, or the morphemes of Korean."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias
from unicodedata import normalize

import regex

from embedkit.arguments import check_type
from embedkit.errors import InputError

Words: TypeAlias = Callable[[str], list[str]]

UNICODE, KIWI = "unicode", "kiwi"

_CJK = r"\p{Hangul}\p{Han}\p{Hiragana}\p{Katakana}ー"
_RUNS = regex.compile(rf"(?V1)([{_CJK}]+)|([\w--[{_CJK}]]+)")
_HANGUL = regex.compile(r"\p{Hangul}+")


@lru_cache
def find_words(name: str) -> Words:
    """How texts are split into terms, by its name.

    - `unicode`: words in lower case. A run of Chinese, Japanese or Korean characters becomes its
      bigrams, as in Lucene's CJKAnalyzer, for words are not separated there; one alone is kept.
    - `english` or another language of Snowball (Porter 2001): likewise, but words are stemmed.
    - `kiwi`: likewise, but of Korean the stems of predicates, and the bigrams of nouns, whatever
      particles and endings follow, as Kiwi finds them. Kiwi splits a compound noun or not as its
      neighbours are; its bigrams are the same.

    Raises:
        InputError: there is no such name, or its package is not installed.

    Example:
        >>> find_words("unicode")("Seoul's LG전자 빌딩")
        ['seoul', 's', 'lg', '전자', '빌딩']
    """
    check_type("words", name, (str,), "a str")
    if name == UNICODE:
        return _split
    return _morphemes() if name == KIWI else _stems(name)


def check_bm25(bm25: bool, words: str, *, has_texts: bool) -> str | None:
    """How BM25 splits texts, or None without it; InputError where rows have no texts."""
    if not bm25:
        if words != UNICODE:
            raise InputError(f"got words {words!r} without bm25; expected both")
        return None
    if not has_texts:
        raise InputError(
            "bm25: got no texts; expected texts (embedkit index build FILE), or vectors with texts "
            "(embedkit encode --texts)"
        )
    find_words(words)
    return words


def _split(text: str, stem: Callable[[str], str] = str) -> list[str]:
    terms: list[str] = []
    for run, word in _RUNS.findall(normalize("NFKC", text).casefold()):
        if word:
            terms.append(stem(word))
        else:
            terms += _bigrams(run)
    return terms


def _bigrams(run: str) -> list[str]:
    return [run] if len(run) == 1 else ["".join(pair) for pair in pairwise(run)]


def _stems(language: str) -> Words:
    try:
        import snowballstemmer
    except ImportError:
        languages = "a language of snowballstemmer, which is not installed (run pip install "
        raise _unknown(language, f"{languages}'embedkit[stem]')") from None
    if language not in snowballstemmer.algorithms():
        raise _unknown(language, f"one of {', '.join(snowballstemmer.algorithms())}")
    stemmer, lock = snowballstemmer.stemmer(language), threading.Lock()

    @lru_cache(1 << 16)
    def stem(word: str) -> str:
        with lock:  # a stemmer holds the word that it works on
            return str(stemmer.stemWord(word))

    return lambda text: _split(text, stem)


def _morphemes() -> Words:
    try:
        from kiwipiepy import Kiwi
    except ImportError:
        raise InputError(
            f"words {KIWI!r} needs kiwipiepy, which is not installed; run pip install "
            "'embedkit[korean]'"
        ) from None
    kiwi = Kiwi()

    def morphemes(text: str) -> list[str]:
        text = normalize("NFKC", text)
        terms = _split(_HANGUL.sub(" ", text))
        nouns, end = "", -1
        for token in kiwi.tokenize(text) if _HANGUL.search(text) else ():
            is_noun = token.tag.startswith(("N", "XR", "XP"))
            if not is_noun or token.start != end:
                terms += _bigrams(nouns)
                nouns = ""
            if is_noun:
                nouns, end = nouns + token.form, token.end
            elif token.tag.startswith("V"):
                terms.append(token.form)
        return terms + _bigrams(nouns)

    return morphemes


def _unknown(name: str, others: str) -> InputError:
    return InputError(f"words is {name!r}; expected {UNICODE}, {KIWI} or {others}")
