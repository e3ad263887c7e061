"""Takes out of FireFly's recorded answers what came from steps that are not replayed.

    scripts/recorded_scope.py [ID…]

A recording is one long scenario: a contract that was deployed, or a pool of tokens, shows in later lists and counts.
While Photinus has no contracts and tokens, these steps are not replayed, and what they left (objects that name an id
first seen in them, events and operations of their types, the token connector in a status) goes out of what is expected
of the others; so does what came from single steps that are answered otherwise here. With ids of lines, or none for all
lines, this prints what goes out where.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

GOLDEN: Final = Path(__file__).resolve().parents[1] / "tests" / "data" / "golden"
UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOT_BUILT: Final = re.compile(r"/api/v1(?:/namespaces/[^/]+)?/(?:contracts|apis|tokens)\b")
"""Paths of contracts and tokens, which do not exist yet: with the first of them this becomes narrower."""
TYPES_NOT_BUILT: Final = re.compile(
    r"token_\w+|contract_\w+|blockchain_(?:invoke|contract_deploy|deploy)\w*"
)
"""Types of events, operations and transactions that only contracts and tokens have."""
LISTED: Final = "items"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a recorded answer is, without what is not expected of us.

    Attributes:
        body: The answer.
        removed: How many items of a list went out of it.
        is_open: Whether the page may go on with older items, which the removed ones pushed off it.
    """

    body: Any
    removed: int = 0
    is_open: bool = False


class Scope:
    """Walks through the lines of a recording in their order, and remembers what is not there.

    Args:
        not_sent: Lines whose request is not sent, or makes nothing here, beside those of `NOT_BUILT`.
    """

    def __init__(self, not_sent: Collection[str] = ()) -> None:
        self._not_sent = not_sent
        self._known: set[str] = set()
        self._gone: set[str] = set()

    def is_replayed(self, line: Mapping[str, Any]) -> bool:
        """Whether what a line asks for exists."""
        return not NOT_BUILT.match(line.get("path", ""))

    def expected(self, line: Mapping[str, Any]) -> Expected:
        """What is expected in answer to a line; call it for all lines, in their order."""
        answer = line["response_body"] if "response_body" in line else line.get("frame")
        if not self.is_replayed(line) or line["id"] in self._not_sent:
            self._gone |= _ids(answer) - self._known
            return Expected(answer)
        found = self._reduced(answer, line.get("path", ""))
        self._known |= _ids(found.body)
        return found

    def _reduced(self, answer: Any, path: str) -> Expected:
        match answer:
            case list():
                return self._page(answer, path)
            case {"items": list() as items, "count": int(), "total": int()}:
                page = self._page(items, path)
                counted = {**answer, LISTED: page.body, "count": len(page.body)}
                if page.removed:
                    del counted["total"]
                    counted |= {} if page.is_open else {"total": answer["total"] - page.removed}
                return replace(page, body=counted)
            case {"plugins": {"tokens": list()}}:
                return Expected({**answer, "plugins": {**answer["plugins"], "tokens": []}})
            case _:
                return Expected(answer)

    def _page(self, items: list[Any], path: str) -> Expected:
        kept = [item for item in items if not self._is_gone(item)]
        removed = len(items) - len(kept)
        return Expected(kept, removed, bool(removed) and _is_full(items, path))

    def _is_gone(self, item: Any) -> bool:
        mentioned = _ids(item)
        kind = item.get("type") if isinstance(item, dict) else None
        gone = bool(mentioned & self._gone)
        gone |= isinstance(kind, str) and bool(TYPES_NOT_BUILT.fullmatch(kind))
        if gone:
            self._gone |= mentioned - self._known
        return gone


def _is_full(items: list[Any], path: str) -> bool:
    limit = re.search(r"[?&]limit=(\d+)", path)
    return len(items) >= (int(limit[1]) if limit else 25)


def _ids(value: Any) -> set[str]:
    return set(UUID.findall(json.dumps(value)))


def recording() -> Iterator[dict[str, Any]]:
    """All recorded lines, in the order they happened."""
    texts = (text for path in GOLDEN.glob("*.jsonl") for text in path.read_text().splitlines())
    yield from sorted(map(json.loads, texts), key=lambda line: str(line["id"]))


def main() -> None:
    """Prints what goes out of which line."""
    scope = Scope()
    for line in recording():
        found = scope.expected(line)
        if found.removed and (line["id"] in sys.argv[1:] or not sys.argv[1:]):
            more = ", and more may follow" if found.is_open else ""
            print(f"{line['id']} {line['method']} {line['path']}: {found.removed} items go{more}")


if __name__ == "__main__":
    main()
