"""Compares an answer with a recorded one: values must be the recorded ones, up to what must differ.

Ids, hashes and times are others in every run. An id or a hash must stand for the same thing wherever it comes again,
and never for two things; a hash of content that is the same in every run must be the same. A time must be a time.
"""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, Self

import msgspec

from tests.support.golden import GOLDEN

PATTERNS: Final = {
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z",
    "uuid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "hash": r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])",
    "address": r"(?<=0x)[0-9a-f]{40}(?![0-9a-f])",
    "cid": r"\b(?:Qm[1-9A-HJ-NP-Za-km-z]{44}|baf[a-z2-7]{56})\b",
    "position": r"\b\d{12}/\d{6}(?:/\d{6})?\b",
    "certificate": r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n",
    "place": r"127\.0\.0\.1:\d+|\{client\}",
    "duration": r"\b\d[\d,]*\.?\d*ms",
}
KINDS: Final = re.compile("|".join(f"(?P<{name}>{each})" for name, each in PATTERNS.items()))
NAMED: Final = frozenset({"uuid", "hash", "address", "cid"})
"""Kinds that stand for one thing in a run."""
MISTAKEN: Final = frozenset({"9a6bf45105e1da80174f97341da84f8a40ffceac5c96bac5194cb97db75e26d8"})
"""Of a value with FireFly's wrong content type of a file."""
COUNTERS: Final = frozenset(
    {"sequence", "currentOffset", "averageBatchBytes", "averageFlushTimeMS", "firstEvent"}
)
"""Members whose numbers depend on how much there was before, or on how fast it was."""
COUNTER: Final = re.compile(r"\d+")


@cache
def lasting_hashes() -> frozenset[str]:
    """Recorded hashes of content that is the same in every run."""
    vectors = msgspec.json.decode((GOLDEN / "vectors.json").read_bytes())["vectors"]
    lasting = {hashlib.sha256(b"").hexdigest(), "0" * 64}
    texts = [(each["input"], each["sha256"]) for each in vectors if "input" in each]
    while True:
        more = {
            digest
            for text, digest in texts
            if digest not in lasting
            and digest not in MISTAKEN
            and all(_lasts(found, lasting) for found in KINDS.finditer(text))
        }
        if not more:
            return frozenset(lasting)
        lasting |= more


def _lasts(found: re.Match[str], lasting: set[str]) -> bool:
    return found.lastgroup == "address" or found[0] in lasting


class Likeness:
    """What our answers call the things of a recording, learnt from the answers themselves."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}
        self._recorded: dict[str, str] = {}
        self._times: dict[int, int] = {}

    def copy(self) -> Self:
        """Another one that knows the same; what it learns is its own."""
        other = copy.copy(self)
        other._ours, other._recorded = dict(self._ours), dict(self._recorded)
        other._times = dict(self._times)
        return other

    def translated(self, text: str) -> str:
        """A recorded text with our ids, hashes and addresses in it, as far as they are known."""
        return KINDS.sub(lambda found: self._ours.get(found[0], found[0]), text)

    def moved(self, recorded_ns: int) -> int:
        """The time of this run that corresponds to one of the recording."""
        known = sorted(self._times.items())
        before = known[max(bisect_right(known, (recorded_ns, 0)) - 1, 0)]
        return before[1] + recorded_ns - before[0]

    def differences(self, recorded: Any, answered: Any, path: str = "$") -> Iterator[str]:
        """Where an answer is not the recorded one; what it calls things is learnt on the way."""
        match recorded, answered:
            case dict(), dict():
                for name in sorted(recorded.keys() - answered.keys()):
                    yield f"{path}.{name} is missing: {recorded[name]!r}"
                for name in sorted(answered.keys() - recorded.keys()):
                    yield f"{path}.{name} is extra: {answered[name]!r}"
                for name in (name for name in recorded if name in answered):
                    yield from self._of_member(name, recorded[name], answered[name], path)
            case list(), list():
                if len(recorded) != len(answered):
                    yield f"{path} has {len(answered)} items, recorded {len(recorded)}"
                pairs = list(self._pairs(recorded, answered))
                if [other for _, other in pairs] != sorted(other for _, other in pairs):
                    yield f"{path} is in another order"
                for one, other in pairs:
                    yield from self.differences(recorded[one], answered[other], f"{path}[{other}]")
            case str(), str():
                if not self._is_like(recorded, answered):
                    yield f"{path} is {answered!r}, recorded {self.translated(recorded)!r}"
            case _:
                if type(recorded) is not type(answered) or recorded != answered:
                    yield f"{path} is {answered!r}, recorded {recorded!r}"

    def _pairs(self, recorded: list[Any], answered: list[Any]) -> Iterator[tuple[int, int]]:
        """Which items belong together: those of known ids, and the others in their order if as many came."""
        places = {_id(item): index for index, item in enumerate(answered) if _id(item)}
        ours = [places.get(self._ours.get(_id(item), "")) for item in recorded]
        known = {places[each] for each in self._recorded.keys() & places.keys()}
        left = iter([index for index in range(len(answered)) if index not in known])
        for index, place in enumerate(ours):
            if place is not None:
                yield index, place
            elif len(recorded) == len(answered) and _id(recorded[index]) not in self._ours:
                other = next(left, None)
                if other is not None:
                    yield index, other

    def _of_member(self, name: str, recorded: Any, answered: Any, path: str) -> Iterator[str]:
        counts = name in COUNTERS and type(recorded) is type(answered)
        if counts and COUNTER.fullmatch(str(recorded)) and COUNTER.fullmatch(str(answered)):
            return
        yield from self.differences(recorded, answered, f"{path}.{name}")

    def _is_like(self, recorded: str, answered: str) -> bool:
        if KINDS.sub(_kind, recorded) != KINDS.sub(_kind, answered):
            return False
        pairs = zip(KINDS.finditer(recorded), KINDS.finditer(answered), strict=True)
        return all(self._is_same(str(one.lastgroup), one[0], other[0]) for one, other in pairs)

    def _is_same(self, kind: str, recorded: str, answered: str) -> bool:
        if kind == "time":
            self._times.setdefault(_nanoseconds(recorded), _nanoseconds(answered))
        if kind not in NAMED:
            return True
        if recorded in lasting_hashes():
            return recorded == answered
        ours = self._ours.setdefault(recorded, answered)
        return ours == answered and self._recorded.setdefault(answered, recorded) == recorded


def _id(item: Any) -> str:
    """What an object is called by; empty for what has no id."""
    if not isinstance(item, dict):
        return ""
    named = item.get("header", item)
    return str(named.get("id", "")) if isinstance(named, dict) else ""


def _kind(found: re.Match[str]) -> str:
    return f"<{found.lastgroup}>"


def _nanoseconds(time: str) -> int:
    whole, _, fraction = time.rstrip("Z").partition(".")
    seconds = int(dt.datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)
