"""What can be said of a batch or a message without looking at anything else on chain."""

from __future__ import annotations

from photinus_core.model.canonical import broadcast_context
from photinus_core.sequencing._state import EventState
from photinus_core.sequencing.facts import BatchFacts, MessageFacts, PinEvent


def mismatch_of(chain: PinEvent, facts: BatchFacts) -> str:
    """Why a batch cannot be what its event pinned; empty if it can."""
    expected = 0
    for message in facts.messages:
        if not message.topics or len(set(message.topics)) != len(message.topics):
            return "a message without topics, or with one twice"
        if (message.group is not None) != chain.masked:
            return "a private message in a broadcast batch, or the reverse"
        if not chain.masked:
            here = chain.contexts[expected : expected + len(message.topics)]
            if here != tuple(map(broadcast_context, message.topics)):
                return "the contexts on chain are not those of the messages"
        expected += len(message.topics)
    if expected != len(chain.contexts):
        return "the number of contexts on chain is not that of the messages"
    return ""


def refusal_of(message: MessageFacts, event: EventState) -> str:
    """Why a message is rejected whatever it refers to; empty if it is not."""
    if not message.key:
        return "the message names no signing key"
    if message.key != event.chain.signer:
        return "not signed by the message's key"
    if not message.is_claim:
        if event.owner is None:
            return "the signing key was not registered"
        if event.owner != message.author:
            return f"the signing key belongs to {event.owner}"
    if message.definition_topic is not None and message.topics != (message.definition_topic,):
        return "a definition must have exactly the topic of what it defines"
    return ""
