"""Executable model of the ordering rule for private contexts, checked on random chains.

Usage: python -m tests.simulation.private_order_model SEEDS

A message carries one pin per topic; a pin is (topic, author, nonce), and each author counts
nonces per topic. Pins reach every member in the same chain order, possibly out of nonce order; a
message's data reaches each member at any time. The rule gives each message a key that depends on
the chain alone:

    T    highest chain position among the message and all its nonce predecessors
    D    0 if T is the message's own position, else 1 + the largest D of predecessors with the same T
    key  (T, D, own position)

and members decide the messages of each topic in the order of their keys. A message whose
predecessor is not on chain yet has no key so far (it will be larger than any key at hand); one
whose data, or whose predecessor's data, is missing has an unknown key and T at least its own
position. Where nonces reach the chain in order, as they normally do, the order is simply chain
order.

Repeats: of several pins that are the same the lowest counts, and a message with a pin that does
not count is void; it takes no part. A message that needs itself, through nonces that cross,
never gets a key.
"""

from __future__ import annotations

import random
import sys
from typing import Final

AUTHORS: Final = "ABC"
UNKNOWN: Final = "unknown"
NOT_YET: Final = "not yet"

ModelPin = tuple[str, str, int]
ModelKey = tuple[int, int, int]
Chain = list[tuple[int, tuple[ModelPin, ...]]]


class Member:
    """What one member knows, and what it decided in which order."""

    def __init__(self, authors: str | tuple[str, ...] = AUTHORS) -> None:
        self.authors = authors
        self.message_by_pin: dict[ModelPin, int] = {}
        self.position: dict[int, int] = {}
        self.pins: dict[int, tuple[ModelPin, ...]] = {}
        self.expected: dict[tuple[str, str], int] = {}
        self.decided: dict[int, ModelKey] = {}
        self.order: list[int] = []
        self.void: set[int] = set()
        self.held: set[int] = set()
        """Messages that wait for something outside this model; they keep their place."""
        self._visiting: set[int] = set()

    def chain(self, message: int, pins: tuple[ModelPin, ...]) -> None:
        """A message's pins reach the chain."""
        self.position[message] = len(self.position)
        if any(pin in self.message_by_pin for pin in pins):
            self.void.add(message)
        else:
            self.message_by_pin.update(dict.fromkeys(pins, message))
        self.settle()

    def data(self, message: int, pins: tuple[ModelPin, ...]) -> None:
        """A message's data arrives."""
        self.pins[message] = pins
        self.settle()

    def key(self, message: int) -> ModelKey | str:
        """The message's key as far as this member can tell."""
        if message in self.decided:
            return self.decided[message]
        if message not in self.pins:
            return UNKNOWN
        if message in self._visiting:
            return NOT_YET
        self._visiting.add(message)
        before: list[ModelKey | str] = []
        for topic, author, nonce in self.pins[message]:
            if nonce:
                previous = self.message_by_pin.get((topic, author, nonce - 1))
                before.append(NOT_YET if previous is None else self.key(previous))
        self._visiting.remove(message)
        if NOT_YET in before:
            return NOT_YET
        if UNKNOWN in before:
            return UNKNOWN
        own = self.position[message]
        keys = [key for key in before if not isinstance(key, str)]
        latest = max([own, *(key[0] for key in keys)])
        depth = 0 if latest == own else 1 + max(key[1] for key in keys if key[0] == latest)
        return latest, depth, own

    def decidable(self, message: int) -> bool:
        """Whether it is the message's turn."""
        pins = self.pins.get(message)
        if pins is None or message in self.void or message in self.held:
            return False
        if any(self.expected.get((topic, author), 0) != nonce for topic, author, nonce in pins):
            return False
        key = self.key(message)
        if isinstance(key, str):
            return False
        for topic, _, _ in pins:
            for author in self.authors:
                nonce = self.expected.get((topic, author), 0)
                other = self.message_by_pin.get((topic, author, nonce))
                if other is None or other == message or self.position[other] > key[0]:
                    continue
                rival = self.key(other)
                if rival == UNKNOWN or (not isinstance(rival, str) and rival < key):
                    return False
        return True

    def settle(self) -> None:
        """Decides what can be decided."""
        while ready := [m for m in self.position if m not in self.decided and self.decidable(m)]:
            message = ready[0]
            key = self.key(message)
            assert not isinstance(key, str)
            self.decided[message] = key
            self.order.append(message)
            self.expected.update({(t, a): n + 1 for t, a, n in self.pins[message]})


def random_chain(rng: random.Random) -> Chain:
    """Messages of some authors in a random chain order; sometimes one is pinned again by another."""
    topics = [f"t{i}" for i in range(rng.randint(1, 4))]
    nonces: dict[tuple[str, str], int] = {}
    messages: Chain = []
    for number in range(rng.randint(3, 14)):
        author, pins = rng.choice(AUTHORS), []
        for topic in rng.sample(topics, rng.randint(1, min(3, len(topics)))):
            nonces[topic, author] = nonces.get((topic, author), -1) + 1
            pins.append((topic, author, nonces[topic, author]))
        messages.append((number, tuple(pins)))
    if rng.random() < 0.3:
        number, pins_of = rng.choice(messages)
        messages.append((len(messages), pins_of if number % 2 else pins_of[:1]))
    if rng.random() < 0.6:
        rng.shuffle(messages)
    return messages


def member_order(rng: random.Random, chain: Chain) -> Member:
    """A member to which chain and data came in a random interleaving."""
    member, arrivals, lateness = Member(), rng.sample(chain, len(chain)), rng.random()
    on_chain = list(chain)
    while on_chain or arrivals:
        if on_chain and (not arrivals or rng.random() > lateness):
            member.chain(*on_chain.pop(0))
        else:
            member.data(*arrivals.pop(0))
    return member


def check_seed(seed: int) -> None:
    """Six members see one chain; they must agree, and without repeats decide everything."""
    rng = random.Random(seed)
    chain = random_chain(rng)
    pins = dict(chain)
    topics = sorted({pin[0] for of_one in pins.values() for pin in of_one})
    views = set()
    for _ in range(6):
        member = member_order(rng, chain)
        assert member.void or len(member.order) == len(chain), f"seed {seed}: undecided messages"
        views.add(
            tuple(
                (t, tuple(m for m in member.order if any(p[0] == t for p in pins[m])))
                for t in topics
            )
        )
    assert len(views) == 1, f"seed {seed}: members disagree"


def main(seeds: int) -> None:
    """Checks many seeds."""
    for seed in range(seeds):
        check_seed(seed)
    print(f"{seeds} chains, six members each: one order per topic, everything decided")


if __name__ == "__main__":
    main(int(sys.argv[1]))
