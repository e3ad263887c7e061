"""One seeded run: who sends what when, what outsiders do to the chain, what happens to replicas."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Final

from photinus_core.model.canonical import broadcast_context, hash_text, private_pin
from photinus_core.sequencing.facts import BatchKey, ChainEvent, PinEvent

from tests.simulation.checks import check
from tests.simulation.content import Body, SimBatch, SimMessage, sim_group_hash, topic_of
from tests.simulation.database import Rows
from tests.simulation.intake import take
from tests.simulation.member import Holes, Member, Tuning
from tests.simulation.oracle import Verdicts
from tests.simulation.world import MILLISECOND, Clock, Ledger, Storage, Told, Weather


class Kind(StrEnum):
    """What a member runs."""

    SINGLE = "single"
    """One replica each; it may crash."""
    REPLICAS = "replicas"
    """Two or three, which also freeze, lose the ensemble and hand over."""


MEMBERS: Final = 3
NAMESPACES: Final = 2
"""Each with its own contract, replicas and troubles; what one does must not show in the other."""
TAKEN_BACK_MAX: Final = 5
"""Most events of one reorganisation."""
STEPS_MAX: Final = 200_000
SESSION: Final = 8.0
"""How long a silent leader stays one, in latencies."""
ORGS: Final = tuple(f"did:firefly:org/m{n}" for n in range(MEMBERS))


@dataclass
class Report:
    """What a run did."""

    seed: int
    steps: int = 0
    sent: int = 0
    confirmed: int = 0
    rejected: int = 0
    crashes: int = 0
    freezes: int = 0
    elections: int = 0
    deposed: int = 0
    """How often a leader was told so by its database or a connector."""
    pins: int = 0
    reorganised: int = 0
    """How many events the chain took back."""
    cancelled: int = 0
    """Batches that were given up."""


@dataclass
class Run:
    """The state of one run in one namespace."""

    seed: int
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


def run_seed(seed: int, kind: Kind = Kind.SINGLE, holes: Holes | None = None) -> Report:
    """Runs one seed and checks it.

    Raises:
        AssertionError: An invariant does not hold; the message begins with the seed.
    """
    rng = random.Random(seed)
    clock = Clock(rng, Weather.of(rng, replicas=kind is Kind.REPLICAS))
    report = Report(seed)
    runs = [
        _start(seed * NAMESPACES + n, rng, clock, kind, holes or Holes()) for n in range(NAMESPACES)
    ]
    try:
        clock.run(STEPS_MAX)
        for run in runs:
            _count(run, check(run.members, run.ledger, run.forged), report)
    except AssertionError as failure:
        raise AssertionError(f"seed {seed}: {failure}") from failure
    report.steps = clock.steps
    return report


def _start(seed: int, rng: random.Random, clock: Clock, kind: Kind, holes: Holes) -> Run:
    run = Run(seed, rng, clock, Ledger(clock), Storage())
    page = rng.choice([(6, 2), (1000, 200)])
    tuning = Tuning(
        session=SESSION if kind is Kind.REPLICAS else 0,
        decisions_max=rng.choice([1, 3, 1000]),
        load_all_masked=rng.random() < 0.2,
        masked_events_max=rng.choice([0, 2, 1000]),
        private_contexts_max=rng.choice([0, 1, 1000]),
        batch_messages_max=rng.choice([1, 3, 5]),
        collect_max_ns=rng.choice([0, 100 * MILLISECOND]),
        pins_page=rng.choice([2, 5, 2000]),
        wakeups_page=page[0],
        wakeups_kept_max=page[1],
        pause_rate=rng.choice([0.0, 0.2, 0.6]),
    )
    for n, did in enumerate(ORGS):
        replicas = rng.choice([2, 3]) if kind is Kind.REPLICAS else 1
        run.members.append(
            Member(
                f"member{n}",
                did,
                clock,
                run.ledger,
                run.storage,
                replace(tuning, replicas=replicas),
                holes,
            )
        )
    for member in run.members:
        member.peers = {m.did: m for m in run.members}
        member.start()
    _script(run)
    if kind is Kind.REPLICAS:
        _trouble(run)
    return run


def _count(run: Run, expected: Verdicts, report: Report) -> None:
    outcomes = list(expected.outcomes.values())
    report.confirmed += outcomes.count("confirmed")
    report.rejected += outcomes.count("rejected")
    report.pins += sum(map(len, run.ledger.events.values()))
    report.reorganised += run.ledger.reorganised
    for member in run.members:
        report.sent += len(member.acked)
        report.cancelled += sum(own.cancelled for own in member.store.own.values())
        report.crashes += member.crashes
        report.freezes += sum(replica.freezes for replica in member.replicas)
        report.elections += member.election.changes
        report.deposed += member.database.refused + member.connectors.refused


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
    if rng.random() < 0.4:
        signer = rng.choice([*map(key_of, ORGS), "key-of-nobody"])
        at(rng.random() * 30, partial(run.ledger.submit_action, 0, signer, "terminate"))
    if rng.random() < 0.25:
        at(rng.random() * 30, partial(run.ledger.submit_action, 0, key_of(ORGS[0]), "dance"))
    # Chance of their own: a run without them is what it was before there were any.
    chance = random.Random(run.seed)
    for _ in range(chance.choice([0, 0, 2, 6])):
        at(chance.random() * 35, partial(_reorganise, run, chance))


def _submit(run: Run, member: Member, *messages: SimMessage, tries: int = 30) -> None:
    """A client that asks again, any replica, until it is told that its messages are taken."""
    if member.has_acked(messages[0]):
        return
    member.submit(*messages)
    if tries:
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


def _trouble(run: Run) -> None:
    """What happens to replicas, mostly to those that lead."""
    rng = run.rng
    scale = run.clock.weather.latency_ms * MILLISECOND
    for _ in range(rng.choice([2, 5, 10])):
        member = rng.choice(run.members)
        kind = rng.choice(["freeze", "freeze", "cut off", "hand over", "crash"])
        run.clock.at(int(rng.random() * 45 * scale), partial(_strike, run, member, kind))


def _strike(run: Run, member: Member, kind: str) -> None:
    leading = [replica for replica in member.replicas if replica.leads]
    if not leading or run.rng.random() < 0.2:
        leading = member.replicas
    replica, times = run.rng.choice(leading), SESSION * run.rng.choice([0.5, 1, 2, 4])
    match kind:
        case "freeze":
            replica.freeze(times)
        case "cut off":
            replica.cut_off(times)
        case "hand over":
            replica.hand_over()
        case _:
            replica.crash()


# What others do to the chain


def _reorganise(run: Run, chance: random.Random) -> None:
    """The end of the chain changes places, as far as nobody has decided on it.

    What was decided is final by the rule that all members wait for the same number of confirmations. That
    nobody decides between the reorganisation and its news is the simulation's: all hear of it at once.
    """
    contract = max(run.ledger.events)
    undecided = 0
    for event in reversed(run.ledger.events[contract]):
        if any(_has_decided(member.store, run.ledger, event) for member in run.members):
            break
        undecided += 1
    if not undecided:
        return
    run.ledger.take_back(contract, chance.randint(1, min(undecided, TAKEN_BACK_MAX)))
    stream = run.ledger.stream[contract]
    for member in run.members:
        if member.store.contract < contract:
            continue  # it does not listen to this contract yet
        begin = member.store.read.get(contract, 0)
        tells = not member.holes.removals_untold
        change = partial(take, contract, begin, stream[begin:], tells=tells)
        member.database.transact(change, None)


def _has_decided(rows: Rows, ledger: Ledger, event: ChainEvent) -> bool:
    if isinstance(event, PinEvent):
        stored = rows.pins.get(event.position)
        return stored is not None and bool(stored.dispatched)
    contract = event.position.contract
    read = ledger.stream[contract][: rows.read.get(contract, 0)]
    return Told(event) in read and event.position not in rows.actions


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
        if (own.batch.group is not None) == private
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
        run.storage.put(batch)
        return
    members = next(
        m.store.groups[batch.group] for m in run.members if batch.group in m.store.groups
    )
    for member in run.members:
        if member.did in members:
            run.members[0].connectors.post(member, batch)
