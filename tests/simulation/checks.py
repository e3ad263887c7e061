"""What must be true after a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from photinus_core.sequencing.facts import BatchKey

from tests.simulation.content import SimBatch, SimMessage
from tests.simulation.member import Member
from tests.simulation.oracle import Verdicts, verdicts
from tests.simulation.world import Ledger


def check(
    members: Sequence[Member], ledger: Ledger, forged: Mapping[BatchKey, SimBatch]
) -> Verdicts:
    """Checks all members of a namespace; gives what had to come out.

    Raises:
        AssertionError: An invariant does not hold.
    """
    batches: dict[BatchKey, SimBatch] = dict(forged)
    groups: dict[str, tuple[str, ...]] = {}
    for member in members:
        batches.update((own.batch.key, own.batch) for own in member.store.own.values())
        groups.update(member.store.groups)
    expected = verdicts(ledger.events, batches, groups)
    for member in members:
        _check_alive(member)
        _check_log(member, expected)
        _check_unjudged(members, member, expected)
        _check_acknowledged(member)
        _check_decided(member, batches, groups, expected)
        _check_fencing(member)
    for key, times in ledger.transactions.items():
        assert times == 1, f"{times} transactions of operation {key}"
    return expected


def _check_alive(member: Member) -> None:
    for replica in member.replicas:
        assert replica.alive, f"a replica of {member.name} is down"
        assert not replica.frozen, f"a replica of {member.name} is frozen"
    assert sum(replica.leads for replica in member.replicas) == 1, f"{member.name}: leaders"


def _check_fencing(member: Member) -> None:
    """One writer, and what a leader sealed is sent by the next as it was sealed."""
    assert not member.database.overruled, f"{member.name}: a deposed leader's transaction landed"
    assert not member.connectors.overruled, f"{member.name}: a deposed leader's call was taken"
    for own in member.store.own.values():
        keys = {key for key in member.connectors.keys if key.startswith(f"{own.batch.id}:")}
        assert keys <= set(own.operations), f"{member.name}: {own.batch.id} was sent under {keys}"
    sealed = Counter(m.id for own in member.store.own.values() for m in own.batch.messages)
    twice = [message for message, times in sealed.items() if times > 1]
    assert not twice, f"{member.name} sealed {twice} twice"


def _check_unjudged(members: Sequence[Member], member: Member, expected: Verdicts) -> None:
    """Where the oracle does not judge, members must agree with each other."""
    for group in expected.unjudged_groups:
        logs = [
            [(m.id, outcome) for m, outcome in other.store.log if m.group == group]
            for other in members
            if member.did in other.store.groups.get(group, ())
        ]
        assert all(sorted(log) == sorted(logs[0]) for log in logs), f"{member.name} differs"


def _concerns(member: Member, message: SimMessage, groups: Mapping[str, tuple[str, ...]]) -> bool:
    return message.group is None or member.did in groups.get(message.group, ())


def _check_log(member: Member, expected: Verdicts) -> None:
    """Same order per topic and per topic and group, same outcomes, everything decided, nothing
    twice.
    """
    log = member.store.log
    hashes = [message.hash for message, _ in log]
    assert len(set(hashes)) == len(hashes), f"{member.name} decided a message twice"
    orders: dict[str | tuple[str, str], list[str]] = defaultdict(list)
    for message, outcome in log:
        if outcome == "confirmed" and message.group not in expected.unjudged_groups:
            for topic in message.topics:
                orders[topic if message.group is None else (topic, message.group)].append(
                    message.id
                )
    for topic, order in expected.broadcast_order.items():
        assert orders.pop(topic, []) == order, f"{member.name}: order of topic {topic}"
    for (topic, group), order in expected.private_order.items():
        mine = orders.pop((topic, group), [])
        if member.did in member.store.groups.get(group, ()):
            assert mine == order, f"{member.name}: order of topic {topic} in a group"
        else:
            assert not mine, f"{member.name} saw a group it is not in"
    assert not orders, f"{member.name} confirmed what should not be: {dict(orders)}"
    outcomes = {
        message.hash: str(outcome)
        for message, outcome in log
        if message.group not in expected.unjudged_groups
    }
    for message_hash, outcome in outcomes.items():
        assert expected.outcomes.get(message_hash) == outcome, f"{member.name}: outcome"


def _check_acknowledged(member: Member) -> None:
    """What a member acknowledged is in a batch."""
    assert not member.store.outbox, f"{member.name} has unsent messages"
    sent = {m.hash for own in member.store.own.values() for m in own.batch.messages}
    for message in member.acked:
        assert message.hash in sent, f"{member.name} lost {message.id}"
    for own in member.store.own.values():
        assert own.dispatched, f"{member.name} left {own.batch.id} undispatched"
        if own.cancelled:
            # Outsiders may have pinned it all the same; we have not.
            keys = member.connectors.keys.intersection(own.operations)
            assert not keys, f"{member.name}: {own.batch.id} was cancelled, and sent under {keys}"
        else:
            assert member.store.is_pinned(own), f"{member.name}: {own.batch.id} is not pinned"


def _check_decided(
    member: Member,
    batches: Mapping[BatchKey, SimBatch],
    groups: Mapping[str, tuple[str, ...]],
    expected: Verdicts,
) -> None:
    """What the chain decides is decided here, if it concerns this member."""
    for batch in batches.values():
        for message in batch.messages:
            outcome = expected.outcomes.get(message.hash)
            if outcome is not None and _concerns(member, message, groups):
                decided = member.store.decided.get(message.hash)
                assert decided, f"{member.name} left {message.id} undecided"
