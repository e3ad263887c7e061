"""The error catalogue: code, HTTP status and text of every error.

`FF00nnn` and `FF10nnn` are FireFly's codes with FireFly's statuses and meanings; its clients match
on some of the texts, so those it was seen to print are kept word for word. `FF19nnn` are ours, for
what FireFly has no code for:

    FF190nn  requests and their limits
    FF191nn  database and leadership
    FF192nn  connectors
    FF193nn  configuration
    FF194nn  messages, batches and agreement

A code given twice fails at import. Texts are `str.format` templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Final

from photinus_core.model._firefly_errors import FIREFLY
from photinus_core.model._photinus_errors import PHOTINUS


@dataclass(frozen=True, slots=True)
class Entry:
    """One error of the catalogue.

    Attributes:
        code: `FFnnnnn`.
        http_status: Status of the REST answer.
        text: Template of the text.
        arguments: How many arguments the text takes.
    """

    code: str
    http_status: int
    text: str
    arguments: int

    def render(self, args: tuple[object, ...]) -> str:
        """Fills in the arguments.

        Arguments that do not fit are appended rather than raised about: an error that fails while
        it is made would hide what happened.
        """
        try:
            text = self.text.format(*args)
        except (IndexError, ValueError, TypeError, AttributeError):
            return " ".join((self.text, *map(str, args)))
        surplus = args[self.arguments :]
        return f"{text}: {' '.join(map(str, surplus))}" if surplus else text


def _count_arguments(text: str) -> int:
    return sum(1 for _, field, _, _ in Formatter().parse(text) if field is not None)


def build(areas: Iterable[Iterable[tuple[str, int, str]]]) -> Mapping[str, Entry]:
    """Joins the lists of the areas.

    Raises:
        ValueError: a code is there twice.
    """
    entries: dict[str, Entry] = {}
    for area in areas:
        for code, http_status, text in area:
            if code in entries:
                raise ValueError(f"error code {code} is in the catalogue twice")
            entries[code] = Entry(code, http_status, text, _count_arguments(text))
    return entries


CATALOGUE: Final = build((FIREFLY, PHOTINUS))


def lookup(code: str) -> Entry:
    """Finds an entry; a code that is none gives one with status 500 that names it."""
    entry = CATALOGUE.get(code)
    return entry if entry is not None else Entry(code, 500, "Unknown error code", 0)
