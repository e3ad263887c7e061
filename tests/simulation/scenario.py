"""One seeded run: who sends what when, what outsiders do to the chain, and what must be true
afterwards.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from photinus_core.model.canonical import broadcast_context, hash_text, private_pin
from photinus_core.sequencing.agreement import Agreement
from photinus_core.sequencing.facts import BatchKey

from tests.simulation.content import Body, SimBatch, SimMessage, sim_group_hash, topic_of
from tests.simulation.member import Member, Tuning
from tests.simulation.oracle import Verdicts, verdicts
from tests.simulation.world import MILLISECOND, Clock, Ledger, Storage, Weather

NAMESPACES: Final = 2
MEMBERS: Final = 3
STEPS_MAX: Final = 60_000
ORGS: Final = tuple(f"did:firefly:org/m{n}" for n in range(MEMBERS))


@dataclass(frozen=True)
class Holes:
    """Known holes of FireFly, put back on purpose to see that they are found."""

    machine: Callable[..., Agreement] = Agreement
    wakeups_in_memory: bool = False


@dataclass
class Report:
    """What a run did."""

    seed: int
    steps: int = 0
    sent: int = 0
    confirmed: int = 0
    rejected: int = 0
    crashes: int = 0
    pins: int = 0


@dataclass
class Run:
    """The state of one run in one namespace."""

    rng: random.Random
    clock: Clock
    ledger: Ledger
    storage: Storage
    members: list[Member] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    forged: dict[BatchKey, SimBatch] = field(default_factory=dict)
    number: int = 0
    children: list[tuple[str, str, int]] = field(default_factory=list)
    """DID, key, and the member that sends for it."""

    def new_id(self) -> str:
        self.number += 1
        return f"m{self.number:03d}"


def key_of(did: str) -> str:
    return f"key-of-{did}"


def run_seed(seed: int, holes: Holes | None = None) -> Report:
    """Runs one seed and checks it.

    Raises:
        AssertionError: An invariant does not hold; the message begins with the seed.
    """
    holes = holes or Holes()
    rng = random.Random(seed)
    clock = Clock(rng, Weather.of(rng))
    report = Report(seed)
    runs = [_start_namespace(rng, clock, holes) for _ in range(NAMESPACES)]
    try:
        clock.run(STEPS_MAX)
        for run in runs:
            _check(run, report)
    except AssertionError as failure:
        raise AssertionError(f"seed {seed}: {failure}") from failure
    report.steps = clock.steps
    return report


def _start_namespace(rng: random.Random, clock: Clock, holes: Holes) -> Run:
    run = Run(rng, clock, Ledger(clock), Storage())
    tuning = Tuning(
        decisions_max=rng.choice([1, 3, 1000]),
        load_all_masked=rng.random() < 0.5,
        masked_events_max=rng.choice([0, 2, 1000]),
        private_contexts_max=rng.choice([0, 1, 1000]),
        batch_messages_max=rng.choice([1, 3, 5]),
    )
    for n, did in enumerate(ORGS):
        member = Member(
            f"member{n}",
            did,
            clock,
            run.ledger,
            run.storage,
            tuning,
            holes.machine,
            wakeups_in_memory=holes.wakeups_in_memory,
        )
        run.members.append(member)
    for member in run.members:
        member.peers = {m.did: m for m in run.members}
        member.start()
    _script(run)
    return run


# What members send


def _script(run: Run) -> None:
    rng = run.rng
    scale = run.clock.weather.latency_ms * MILLISECOND

    def at(step: float, action: Callable[[], None]) -> None:
        run.clock.at(int(step * scale), action)

    for n, member in enumerate(run.members):
        at(rng.random() * 3, partial(_submit, run, member, _root(run, member.did)))
        at(2 + n, partial(_found_group, run, member, 30))
    for n in range(rng.randint(0, 2)):
        _plan_child(run, n, at)
    for _ in range(rng.randint(1, 3)):
        at(rng.random() * 25, partial(_define_datatype, run))
    for _ in range(rng.randint(10, 25)):
        at(rng.random() * 30, partial(_broadcast, run))
    for _ in range(rng.randint(10, 25)):
        at(rng.random() * 30, partial(_private, run))
    for _ in range(rng.choice([0, 2, 6])):
        at(rng.random() * 30, partial(_interfere, run))
    for _ in range(rng.choice([0, 0, 3])):
        at(rng.random() * 12, partial(_garbage_by_somebody, run))
    if rng.random() < 0.25:
        signer = rng.choice([*map(key_of, ORGS), "key-of-nobody"])
        at(rng.random() * 30, partial(run.ledger.submit_action, 0, signer, "terminate"))
    if rng.random() < 0.25:
        at(rng.random() * 30, partial(run.ledger.submit_action, 0, key_of(ORGS[0]), "dance"))


def _submit(run: Run, member: Member, *messages: SimMessage, tries: int = 20) -> None:
    """A client that tries again while its member is down."""
    before = len(member.acked)
    member.submit(*messages)
    if len(member.acked) == before and tries and messages[0].id not in member.store.outbox:
        run.clock.soon(lambda: _submit(run, member, *messages, tries=tries - 1), 3)


def _message(
    run: Run, author: str, key: str, topics: tuple[str, ...], body: Body, group: str | None = None
) -> SimMessage:
    return SimMessage(run.new_id(), author, key, topics, group, body)


def _definition(run: Run, author: str, body: Body) -> SimMessage:
    topic = topic_of(body)
    assert topic is not None
    return _message(run, author, key_of(author), (topic,), body)


def _root(run: Run, did: str) -> SimMessage:
    return _definition(run, did, Body("root", did=did))


def _plan_child(run: Run, n: int, at: Callable[[float, Callable[[], None]], None]) -> None:
    """A child identity: claim and verification go out in any order; two may claim one key."""
    rng = run.rng
    member, parent = rng.choice(run.members), rng.choice(ORGS)
    did = f"did:firefly:child{n}"
    key = rng.choice([key_of(did), "shared-key"])
    body = Body("child", did=did, parent=parent, child_key=key)
    topic = topic_of(body)
    assert topic is not None
    claim = _message(run, did, key, (topic,), body)
    verifier = parent if rng.random() < 0.8 else rng.choice(ORGS)
    verification = _definition(
        run, verifier, Body("verification", did=did, parent=parent, claim=claim.hash)
    )
    at(3 + rng.random() * 8, partial(_submit, run, member, claim))
    at(3 + rng.random() * 8, partial(_submit, run, run.members[ORGS.index(verifier)], verification))
    run.children.append((did, key, run.members.index(member)))


def _found_group(run: Run, member: Member, tries: int) -> None:
    if tries and not _known_or_hasty(run, member, key_of(member.did)):
        run.clock.soon(partial(_found_group, run, member, tries - 1), 2)
        return
    others = [did for did in ORGS if did != member.did]
    members = tuple(sorted([member.did, *run.rng.sample(others, run.rng.randint(1, len(others)))]))
    group = sim_group_hash(members)
    if group in run.groups:
        return
    run.groups.append(group)
    body = Body("group", members=members)
    _submit(run, member, _message(run, member.did, key_of(member.did), (group,), body, group))


def _define_datatype(run: Run) -> None:
    member = run.rng.choice(run.members)
    body = Body("datatype", name=f"d{run.rng.randint(0, 1)}", did=run.new_id())
    _submit(run, member, _definition(run, member.did, body))


def _text(run: Run) -> Body:
    rng = run.rng
    return Body(
        good=rng.random() < 0.9,
        datatype=f"d{rng.randint(0, 1)}" if rng.random() < 0.3 else "",
        blob=f"blob-{run.new_id()}" if rng.random() < 0.2 else "",
    )


def _topics(run: Run) -> tuple[str, ...]:
    return tuple(run.rng.sample(["a", "b", "c"], run.rng.choice([1, 1, 2, 3])))


def _broadcast(run: Run, tries: int = 50) -> None:
    rng = run.rng
    member = rng.choice(run.members)
    author, key = member.did, key_of(member.did)
    mine = [c for c in run.children if c[2] == run.members.index(member)]
    if mine and rng.random() < 0.4:
        author, key, _ = rng.choice(mine)
    if rng.random() < 0.05:
        key = "key-of-nobody"
    if not _known_or_hasty(run, member, key):
        if tries:
            run.clock.soon(partial(_broadcast, run, tries - 1), 5)
        return
    _submit(run, member, _message(run, author, key, _topics(run), _text(run)))


def _private(run: Run, tries: int = 50) -> None:
    rng = run.rng
    usable = [
        (m, g)
        for m in run.members
        for g in m.store.groups
        if m.did in m.store.groups[g] and _known_or_hasty(run, m, key_of(m.did))
    ]
    if usable:
        member, group = rng.choice(usable)
        message = _message(run, member.did, key_of(member.did), _topics(run), _text(run), group)
        _submit(run, member, message)
    elif tries:
        run.clock.soon(partial(_private, run, tries - 1), 5)


def _known_or_hasty(run: Run, member: Member, key: str) -> bool:
    """Whether a client sends now: usually once its identity is confirmed, sometimes too early."""
    return key in member.store.definitions.owners or run.rng.random() < 0.1


# What others do to the chain


def _interfere(run: Run) -> None:
    tricks: list[Callable[[Run], None]] = [
        _garbage_by_nobody,
        _garbage_by_somebody,
        _pin_again,
        _pin_again_by_another,
        _wrong_contexts,
        _same_messages_in_a_new_batch,
        _same_message_under_a_new_nonce,
        _reckless_author,
        _masked_noise,
    ]
    run.rng.choice(tricks)(run)


def _pin(run: Run, signer: str, batch: BatchKey, contexts: tuple[str, ...]) -> None:
    contract = max(run.ledger.events)
    run.ledger.submit_pin(run.new_id(), contract, signer, batch, contexts)


def _some_batch(run: Run, *, private: bool) -> tuple[str, SimBatch, tuple[str, ...]] | None:
    owns = [
        own
        for member in run.members
        for own in member.store.own.values()
        if own.sent_to is not None and (own.batch.group is not None) == private
    ]
    if not owns:
        return None
    own = run.rng.choice(owns)
    return own.signer, own.batch, own.contexts


def _garbage_by_nobody(run: Run) -> None:
    """Pins of a batch that nobody has, by a key that nobody knows: they must not hold up a topic."""
    contexts = tuple(map(broadcast_context, _topics(run)))
    batch = BatchKey(run.new_id(), hash_text(run.new_id()), "nowhere")
    _pin(run, f"stranger-{run.new_id()}", batch, contexts)


def _garbage_by_somebody(run: Run) -> None:
    """The same by a member, or in the topic of a definition: that may hold up what it touches."""
    signer = run.rng.choice([key_of(run.rng.choice(ORGS)), "shared-key", "stranger"])
    child, datatype = Body("child", did="did:firefly:child0"), Body("datatype", name="d0")
    topic = run.rng.choice([topic_of(child), topic_of(datatype), "zz", "c"])
    batch = BatchKey(run.new_id(), hash_text(run.new_id()), "nowhere")
    _pin(run, signer, batch, (broadcast_context(topic or ""),))


def _masked_noise(run: Run) -> None:
    """Pins of groups that nobody here is in."""
    contexts = tuple(hash_text(run.new_id()) for _ in range(run.rng.randint(1, 3)))
    _pin(run, key_of(run.rng.choice(ORGS)), BatchKey(run.new_id(), hash_text("x")), contexts)


def _pin_again(run: Run) -> None:
    if found := _some_batch(run, private=run.rng.random() < 0.5):
        signer, batch, contexts = found
        _pin(run, signer, batch.key, contexts)


def _pin_again_by_another(run: Run) -> None:
    if found := _some_batch(run, private=run.rng.random() < 0.5):
        _, batch, contexts = found
        signer = run.rng.choice([*map(key_of, ORGS), "stranger"])
        _pin(run, signer, batch.key, contexts)


def _wrong_contexts(run: Run) -> None:
    if found := _some_batch(run, private=False):
        signer, batch, contexts = found
        wrong = broadcast_context("a") if run.rng.random() < 0.5 else broadcast_context("zz")
        _pin(run, signer, batch.key, (wrong, *contexts[1:]))


def _same_messages_in_a_new_batch(run: Run) -> None:
    """What FireFly does after a crash: the same messages, pins too, in another batch."""
    if found := _some_batch(run, private=run.rng.random() < 0.5):
        signer, batch, contexts = found
        again = SimBatch(f"again-{run.new_id()}", batch.messages, batch.group)
        _spread(run, again)
        _pin(run, signer, again.key, contexts)


def _same_message_under_a_new_nonce(run: Run) -> None:
    """A private message pinned again with a pin that its author has not used, or another one has."""
    if found := _some_batch(run, private=True):
        signer, batch, _ = found
        assert batch.group is not None
        message = run.rng.choice(batch.messages)
        again = SimBatch(f"again-{run.new_id()}", (message,), batch.group)
        nonces = [run.rng.randint(0, 8) for _ in message.topics]
        pins = tuple(
            private_pin(t, batch.group, message.author, n)
            for t, n in zip(message.topics, nonces, strict=True)
        )
        _spread(run, again)
        _pin(run, signer, again.key, pins)


def _reckless_author(run: Run) -> None:
    """New private messages under nonces that are used, not due, or of another topic."""
    rng = run.rng
    known = [(m, g) for m in run.members for g in m.store.groups if m.did in m.store.groups[g]]
    if not known:
        return
    member, group = rng.choice(known)
    author = member.did
    for _ in range(rng.randint(1, 4)):
        message = _message(run, author, key_of(author), _topics(run), _text(run), group)
        batch = SimBatch(f"reckless-{run.new_id()}", (message,), group)
        pins = tuple(
            private_pin(t if rng.random() < 0.9 else "a", group, author, rng.randint(0, 6))
            for t in message.topics
        )
        _spread(run, batch)
        _pin(run, key_of(author), batch.key, pins)


def _spread(run: Run, batch: SimBatch) -> None:
    """Gives a batch to all who should have it, at some time."""
    run.forged[batch.key] = batch
    if batch.group is None:
        run.storage.batches[batch.payload_ref] = batch
        return
    members = next(
        m.store.groups[batch.group] for m in run.members if batch.group in m.store.groups
    )
    for member in run.members:
        if member.did in members:
            run.members[0].post(member, batch)


# What must be true afterwards


def _check(run: Run, report: Report) -> None:
    batches: dict[BatchKey, SimBatch] = dict(run.forged)
    groups: dict[str, tuple[str, ...]] = {}
    for member in run.members:
        batches.update((own.batch.key, own.batch) for own in member.store.own.values())
        groups.update(member.store.groups)
    expected = verdicts(run.ledger.events, batches, groups)
    for member in run.members:
        assert member.alive, f"{member.name} is down"
        _check_log(member, expected)
        _check_unjudged(run, member, expected)
        _check_acknowledged(run, member, batches, expected)
        report.crashes += member.crashes
    report.sent += sum(len(member.acked) for member in run.members)
    report.pins += sum(map(len, run.ledger.events.values()))
    outcomes = list(expected.outcomes.values())
    report.confirmed += outcomes.count("confirmed")
    report.rejected += outcomes.count("rejected")


def _check_unjudged(run: Run, member: Member, expected: Verdicts) -> None:
    """Where the oracle does not judge, members must agree with each other."""
    for group in expected.unjudged_groups:
        logs = [
            [(m.id, outcome) for m, outcome in other.store.log if m.group == group]
            for other in run.members
            if member.did in other.store.groups.get(group, ())
        ]
        assert all(sorted(log) == sorted(logs[0]) for log in logs), f"{member.name} differs"


def _concerns(member: Member, message: SimMessage, groups: dict[str, tuple[str, ...]]) -> bool:
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


def _check_acknowledged(
    run: Run, member: Member, batches: dict[BatchKey, SimBatch], expected: Verdicts
) -> None:
    """What this member acknowledged is decided, on every member it concerns, as it must be."""
    groups = {g: m for other in run.members for g, m in other.store.groups.items()}
    sent = {m.hash for own in member.store.own.values() for m in own.batch.messages}
    assert not member.store.outbox, f"{member.name} has unsent messages"
    for message in member.acked:
        assert message.hash in sent, f"{member.name} lost {message.id}"
    for batch in batches.values():
        for message in batch.messages:
            outcome = expected.outcomes.get(message.hash)
            if outcome is not None and _concerns(member, message, groups):
                decided = member.store.decided.get(message.hash)
                assert decided, f"{member.name} left {message.id} undecided"
