"""Private pins of a batch at seal: each author counts nonces per topic and group.

The numbers come from the database within the sealing transaction and go back in it, so a batch
that is sealed keeps its pins for ever; what is resumed after a crash is the same batch with the
same pins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from photinus_core.model.canonical import broadcast_context, nonce_key, private_pin
from photinus_core.model.ids import Hash32


@dataclass(frozen=True, slots=True)
class Pinned:
    """A message that is about to be sealed."""

    topics: tuple[str, ...]
    group: str | None = None
    author: str = ""
    pins: tuple[str, ...] = ()
    """Pins it already has, `<hash>:<nonce>`: a gap fill has those of the message it stands for."""


@dataclass(frozen=True, slots=True)
class SealedPins:
    """What sealing adds to a batch."""

    contexts: tuple[str, ...]
    """What goes on chain: per message, per topic."""
    pins: tuple[tuple[str, ...], ...]
    """For each message what its row stores, `<hash>:<nonce as 16 digits>`; empty for broadcasts."""
    nonces: Mapping[Hash32, int]
    """Last nonce used, by nonce key: what the database must store."""


def nonce_keys(messages: Iterable[Pinned]) -> list[Hash32]:
    """The counters that `seal_pins` will need for these messages."""
    return list(
        dict.fromkeys(
            nonce_key(topic, message.group, message.author)
            for message in messages
            if message.group is not None and not message.pins
            for topic in message.topics
        )
    )


def seal_pins(messages: Iterable[Pinned], stored: Mapping[Hash32, int]) -> SealedPins:
    """Computes the contexts of a batch and allocates nonces in message order, topic by topic.

    Args:
        messages: The batch's messages in order.
        stored: Last nonce used, by nonce key; unused keys are missing.
    """
    contexts: list[str] = []
    pins: list[tuple[str, ...]] = []
    nonces: dict[Hash32, int] = {}
    for message in messages:
        if message.group is None:
            contexts.extend(map(broadcast_context, message.topics))
            pins.append(())
            continue
        own = message.pins
        if not own:
            for topic in message.topics:
                key = nonce_key(topic, message.group, message.author)
                nonce = nonces.get(key, stored.get(key, -1)) + 1
                nonces[key] = nonce
                own += (f"{private_pin(topic, message.group, message.author, nonce)}:{nonce:016d}",)
        contexts.extend(pin.partition(":")[0] for pin in own)
        pins.append(own)
    return SealedPins(tuple(contexts), tuple(pins), nonces)
