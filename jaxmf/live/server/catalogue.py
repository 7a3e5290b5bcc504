"""What items are called, and which are meant by some words."""

import csv
import heapq
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmf.live.answers import Counts
from jaxmf.live.events import Id

COLUMNS = ("id", "title")


class Listed(NamedTuple):
    """An item, what it is called, if that is known, and how many ratings it has."""

    item: Id
    title: str | None
    ratings: int


class Catalogue:
    """Titles by item; an item without one goes by its id.

    Example:
        >>> films = Catalogue({7: "Amélie (2001)", 8: "Matrix, The (1999)"})
        >>> films.search("amelie", 5, Counts([7, 8, 9], np.array([1, 5, 3])))
        [Listed(item=7, title='Amélie (2001)', ratings=1)]
        >>> [one.item for one in films.search("", 2, Counts([7, 8, 9], np.array([1, 5, 3])))]
        [8, 9]
    """

    def __init__(self, titles: Mapping[Any, Any] | None = None) -> None:
        """Of the titles that are known, by id; what is no text, as a frame's NaN, is none."""
        self._titles = {str(item): title for item, title in (titles or {}).items() if isinstance(title, str)}
        self._plain = {item: plain(title) for item, title in self._titles.items()}

    def title(self, item: Id) -> str | None:
        """What an item is called."""
        return self._titles.get(str(item))

    def search(self, text: str, n: int, known: Counts) -> list[Listed]:
        """The `n` items that a text fits best, of those with as good a fit the ones with most ratings: O(items).

        First comes the one of which it is the id, then titles that begin with it, titles that have it at the beginning
        of a word, titles of which its words begin words, and titles that have its words anywhere.
        """
        return [listed for _, _, listed in heapq.nsmallest(n, self._fits(text.strip(), known))]

    def listed(self, known: Counts) -> list[Listed]:
        """All of these items."""
        pairs = zip(known.ids, known.ratings.tolist(), strict=True)
        return [Listed(item, self.title(item), ratings) for item, ratings in pairs if item is not None]

    def _fits(self, text: str, known: Counts) -> Iterator[tuple[int, int, Listed]]:
        """How well each item fits that does, 0 best, and its place by how many ratings it has."""
        words = plain(text).split()
        whole, order = " ".join(words), np.argsort(-known.ratings, kind="stable").tolist()
        for place, row in enumerate(order):
            item, name = known.ids[row], str(known.ids[row])
            title = self._plain.get(name) or plain(name)
            fits = all(word in title for word in words) and (words or not text)
            if item is not None and (fits or name == text):
                fit = 0 if name == text else _fit(title, words, whole)
                yield fit, place, Listed(item, self.title(item), int(known.ratings[row]))


def plain(text: str) -> str:
    """A text as it is searched: words in small letters without accents.

    Example:
        >>> plain("Amélie, or: WALL·E")
        'amelie or wall e'
    """
    letters = unicodedata.normalize("NFKD", text.casefold())
    return " ".join(re.findall(r"\w+", "".join(one for one in letters if not unicodedata.combining(one))))


def read_titles(path: str | os.PathLike) -> dict[str, str]:
    """The titles of a CSV file with columns id and title.

    Raises:
        ValueError: If it can't be read, or lacks one of them.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            lacking = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if lacking:
                raise ValueError(f"it has no column {lacking[0]}: the first line names the columns, id,title")
            return {row["id"]: row["title"] for row in rows if row["title"]}
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"titles {path}: {error}") from error


def _fit(title: str, words: list[str], whole: str) -> int:
    """As `Catalogue.search` says, of a title that has all the words."""
    if title.startswith(whole):
        return 1
    if f" {whole}" in title:
        return 2
    beginnings = f" {title}"
    return 3 if all(f" {word}" in beginnings for word in words) else 4
