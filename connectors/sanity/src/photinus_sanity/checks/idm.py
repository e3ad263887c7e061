"""IDM: one key, one effect; what GetOperation, ListOperations and Cancel say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import operation_pb2 as operations

from photinus_sanity import needs
from photinus_sanity.catalogue import Phase, Profile, must
from photinus_sanity.probe import EXISTS, INVALID, NOT_FOUND, TERMINAL, Probe, refused
from photinus_sanity.sources import Mutation, mutations_of, source_of
from photinus_sanity.violations import Violation, require
from photinus_sanity.wire import Refusal

RULE = "protocol.md §3, common.proto MutationContext"
TIMES = 10
KEY_BYTES_MAX = 256
OPERATIONS = needs.capability(connector.CAPABILITY_OPERATIONS)
SUCCEEDED = common.OPERATION_STATE_SUCCEEDED
CANCELLED = common.OPERATION_STATE_CANCELLED


def _replayed(mutation: Mutation, answer: Any) -> bool:
    return bool(answer.submission.replayed if mutation.submits else answer.replayed)


@must(
    "IDM-001",
    rule=RULE,
    fix="Journal the answer with its key; give it again with replayed=true.",
    needs=(needs.mutates,),
)
async def same_answer(probe: Probe) -> None:
    """The same key with the same arguments, ten times, gives the same answer with replayed=true."""
    for mutation in await mutations_of(probe):
        key = probe.key()
        first = await probe.wire.call(mutation.method, mutation.request(probe.context(key), 0))
        if mutation.submits:
            require(not _replayed(mutation, first), f"{mutation.method} replays a new key")
        for _ in range(TIMES - 1):
            again = await probe.wire.call(mutation.method, mutation.request(probe.context(key), 0))
            if mutation.submits:
                require(_replayed(mutation, again), f"{mutation.method}: replayed is not set")
                same = first.submission.external_id in ("", again.submission.external_id)
                require(same, f"{mutation.method} answers another external_id")


@must(
    "IDM-002",
    rule=f"{RULE}: no second effect",
    fix="Look the key up before you act, in the transaction that records the act.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def one_effect(probe: Probe) -> None:
    """The same key, ten times, has one effect and one end."""
    source = await source_of(probe)
    key = probe.key()
    marker = source.new_marker(key)
    method, request = source.submission(probe.context(key), marker)
    async with source.open() as stream:
        for _ in range(TIMES):
            await probe.wire.call(method, request)
        last = await source.emit()
        found = await stream.collect(lambda seen: bool(source.mine(seen, last)))
        seen = source.mine(found, [marker])
        require(len(seen) == 1, f"one key had {len(seen)} effects")


@must(
    "IDM-003",
    rule=RULE,
    fix="Keep a digest of the arguments with the key; refuse others with KEY_REUSED.",
    needs=(needs.mutates,),
)
async def other_arguments(probe: Probe) -> None:
    """The same key with other arguments is refused with KEY_REUSED."""
    for mutation in await mutations_of(probe):
        key = probe.key()
        await probe.wire.call(mutation.method, mutation.request(probe.context(key), 0))
        await refused(
            probe.wire.call(mutation.method, mutation.request(probe.context(key), 1)),
            EXISTS,
            "KEY_REUSED",
            what=f"{mutation.method} with a used key and other arguments",
        )


@must(
    "IDM-004",
    rule=f"{RULE}: no second effect",
    fix="Take calls with one key one after the other.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def at_once(probe: Probe) -> None:
    """The same key, ten times at once: one call begins the work, the others are told of it."""
    source = await source_of(probe)
    key = probe.key()
    marker = source.new_marker(key)
    method, request = source.submission(probe.context(key), marker)
    answers: list[common.Submission] = []

    async def call() -> None:
        answers.append((await probe.wire.call(method, request)).submission)

    async with source.open() as stream:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(TIMES):
                    group.create_task(call())
        except* Refusal as refusals:
            raise Violation(f"one of the calls is refused: {refusals.exceptions[0]}") from None
        last = await source.emit()
        found = await stream.collect(lambda seen: bool(source.mine(seen, last)))
    new = [answer for answer in answers if not answer.replayed]
    require(len(new) == 1, f"{len(new)} of the calls say that they began the work")
    effects = len(source.mine(found, [marker]))
    require(effects == 1, f"one key had {effects} effects")
    ids = {answer.external_id for answer in answers if answer.external_id}
    require(len(ids) <= 1, f"the calls answer several external ids: {sorted(ids)}")


@must(
    "IDM-005",
    rule=f"{RULE}: keys are scoped by the stream",
    fix="Make the whole StreamRef part of the key in your journal.",
    profile=Profile.FULL,
    needs=(needs.submits, OPERATIONS),
)
async def scoped(probe: Probe) -> None:
    """A key of one stream means nothing in another."""
    source = await source_of(probe)
    key = probe.key()
    method, request = source.submission(probe.context(key), source.new_marker(key))
    await probe.wire.call(method, request)
    other_cluster = probe.stream_ref("submit")
    other_cluster.cluster_id = probe.uuid("another cluster")
    for other in (probe.stream_ref("other"), other_cluster):
        await refused(
            probe.operation(key, other), NOT_FOUND, what="GetOperation with another stream"
        )


@must(
    "IDM-006",
    rule=f"{RULE}: required, at most 256 bytes",
    fix="Refuse a mutating call without a usable key.",
    needs=(needs.mutates,),
)
async def key_form(probe: Probe) -> None:
    """A mutating call without a key, or with one of more than 256 bytes, is refused."""
    for mutation in await mutations_of(probe):
        for key in ("", "k" * (KEY_BYTES_MAX + 1)):
            await refused(
                probe.wire.call(mutation.method, mutation.request(probe.context(key), 0)),
                INVALID,
                what=f"{mutation.method} with a key of {len(key)} bytes",
            )


@must(
    "IDM-007",
    rule=f"{RULE}.stream: required",
    fix="Refuse a mutating call without cluster id and consumer: its key has no scope.",
    needs=(needs.mutates,),
)
async def stream_required(probe: Probe) -> None:
    """A mutating call without a stream is refused."""
    for mutation in await mutations_of(probe):
        context = probe.context(probe.key(), ref=common.StreamRef())
        context.stream.SetInParent()
        await refused(
            probe.wire.call(mutation.method, mutation.request(context, 0)),
            INVALID,
            what=f"{mutation.method} without a stream",
        )


@must(
    "IDM-008",
    rule="protocol.md §3, operation.proto GetOperation",
    fix="Answer UNKNOWN_KEY only for a key that never arrived.",
    needs=(OPERATIONS,),
)
async def unknown_key(probe: Probe) -> None:
    """GetOperation of an unknown key is NOT_FOUND / UNKNOWN_KEY."""
    await refused(
        probe.operation(probe.key()), NOT_FOUND, "UNKNOWN_KEY", what="GetOperation of a new key"
    )


@must(
    "IDM-009",
    rule="operation.proto Operation",
    fix="Record method, state and external id with the key.",
    needs=(OPERATIONS, needs.submits),
)
async def known_key(probe: Probe) -> None:
    """GetOperation tells method, state and external id of a submission, and its end once it has come."""
    source = await source_of(probe)
    key = probe.key()
    method, request = source.submission(probe.context(key), source.new_marker(key))
    answer = await probe.wire.call(method, request)
    found = await probe.operation(key)
    require(found.idempotency_key == key, f"it tells of the key {found.idempotency_key!r}")
    require(found.method == method.partition(".")[2], f"the method is {found.method!r}")
    require(found.state, "the state is not told")
    require(found.external_id == answer.submission.external_id, "another external_id")
    if source.checkpointed:
        update = (await probe.ends(key))[key]
        found = await probe.operation(key)
        require(found.state == update.state, "GetOperation and the update tell different ends")


@must(
    "IDM-010",
    rule="operation.proto ListOperations",
    fix="Order by arrival; give a page token while there is more.",
    profile=Profile.FULL,
    needs=(OPERATIONS, needs.submits),
)
async def listed(probe: Probe) -> None:
    """ListOperations lists the operations of a stream, oldest first, page by page."""
    source = await source_of(probe)
    keys = []
    for n in range(5):
        keys.append(probe.key(f"page{n}"))
        method, request = source.submission(probe.context(keys[-1]), source.new_marker(keys[-1]))
        await probe.wire.call(method, request)
    found: list[str] = []
    token = ""
    for _ in range(100):
        page = operations.ListOperationsRequest(
            stream=probe.submit_ref, page_size=2, page_token=token
        )
        answer = await probe.wire.call("OperationService.ListOperations", page)
        require(len(answer.operations) <= 2, "a page is larger than asked")
        found += [entry.idempotency_key for entry in answer.operations]
        token = answer.next_page_token
        if not token:
            break
    require(not token, "the pages do not end")
    require([key for key in found if key in keys] == keys, f"listed as {found}")


@must(
    "IDM-011",
    rule="protocol.md §3: Cancel durably tombstones a key that has not been sent",
    fix="Mark the key in the journal even when it is unknown; refuse later calls with it.",
    profile=Profile.FULL,
    needs=(OPERATIONS, needs.submits),
)
async def cancelled_before(probe: Probe) -> None:
    """A key cancelled before its call: later calls with it fail or answer CANCELLED, nothing is submitted."""
    source = await source_of(probe)
    key = probe.key()
    marker = source.new_marker(key)
    require(await probe.cancel(key) == CANCELLED, "Cancel of an unknown key is not CANCELLED")
    method, request = source.submission(probe.context(key), marker)
    async with source.open() as stream:
        try:
            answer = await probe.wire.call(method, request)
            require(
                answer.submission.state == CANCELLED, "a cancelled key is submitted all the same"
            )
        except Refusal:
            pass
        last = await source.emit()
        found = await stream.collect(lambda seen: bool(source.mine(seen, last)))
        require(not source.mine(found, [marker]), "a cancelled key had its effect")
    state = (await probe.operation(key)).state
    require(state == CANCELLED, "GetOperation does not say CANCELLED")


@must(
    "IDM-012",
    rule="operation.proto Cancel: if it has been sent, the answer is its state and nothing changes",
    fix="Answer the state of what cannot be withdrawn any more.",
    profile=Profile.FULL,
    needs=(OPERATIONS, needs.ledger),
)
async def cancelled_after(probe: Probe) -> None:
    """Cancel of finished work answers how it ended, and changes nothing."""
    source = await source_of(probe)
    key = probe.key()
    method, request = source.submission(probe.context(key), source.new_marker(key))
    await probe.wire.call(method, request)
    end = (await probe.ends(key))[key]
    require(end.state == SUCCEEDED, f"the submission ended as {end.state}: {end.error}")
    require(await probe.cancel(key) == SUCCEEDED, "Cancel of a finished key is not its state")
    require((await probe.operation(key)).state == SUCCEEDED, "Cancel changed a finished operation")


@must(
    "IDM-013",
    rule=f"{RULE}: keys are remembered durably",
    fix="Commit the key to disk before you answer.",
    profile=Profile.FULL,
    phase=Phase.TERMINATED,
    needs=(needs.restartable, needs.mutates),
)
async def durable(probe: Probe) -> AsyncGenerator[None, None]:
    """Keys are known after a restart: the same answer, the same refusal."""
    done: list[tuple[Mutation, str, Any]] = []
    for mutation in await mutations_of(probe):
        key = probe.key()
        answer = await probe.wire.call(mutation.method, mutation.request(probe.context(key), 0))
        done.append((mutation, key, answer))
    yield
    for mutation, key, answer in done:
        # The other arguments first: a connector that forgot the key would take them, and then know it again.
        await refused(
            probe.wire.call(mutation.method, mutation.request(probe.context(key), 1)),
            EXISTS,
            "KEY_REUSED",
            what=f"{mutation.method} with a used key and other arguments after a restart",
        )
        again = await probe.wire.call(mutation.method, mutation.request(probe.context(key), 0))
        if mutation.submits:
            require(_replayed(mutation, again), f"{mutation.method} has forgotten its key")
            same = answer.submission.external_id in ("", again.submission.external_id)
            require(same, f"{mutation.method} answers another external_id")


@must(
    "IDM-014",
    rule="protocol.md §3: unfinished keys never expire; after UNAVAILABLE the core asks GetOperation",
    fix="Journal before you send, and look after a start what became of journaled work.",
    profile=Profile.CHAOS,
    phase=Phase.DISTURBED,
    needs=(needs.restartable, needs.submits, OPERATIONS),
)
async def killed(probe: Probe) -> None:
    """Killed in the middle of submissions (kill -9): asked and sent again, each key has one effect."""
    source = await source_of(probe)
    sent: list[tuple[str, str]] = []

    async def submit() -> None:
        for n in range(TIMES * 2):
            key = probe.key(f"kill{n}")
            sent.append((key, source.new_marker(key)))
            method, request = source.submission(probe.context(key), sent[-1][1])
            try:
                await probe.wire.call(method, request)
            except (Refusal, asyncio.CancelledError):
                return
            if n == TIMES:
                halfway.set()

    halfway = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(submit())
        await halfway.wait()
        await probe.session.target.kill()
    await probe.session.start_again()
    for key, marker in sent:
        try:
            await probe.operation(key)
        except Refusal as refusal:
            require(refusal.code is NOT_FOUND, f"GetOperation ended with {refusal}")
        method, request = source.submission(probe.context(key), marker)
        await probe.wire.call(method, request)
    markers = [marker for _, marker in sent]
    async with source.open() as stream:
        found = await stream.collect(
            lambda seen: set(source.mine(seen, markers)) == set(markers),
            what="the effects of all keys",
        )
        last = await source.emit()
        found += await stream.collect(lambda seen: bool(source.mine(seen, last)))
    ids = {event.id: source.marker(event) for event in found}
    for marker in markers:
        effects = sum(each == marker for each in ids.values())
        require(effects == 1, f"a key had {effects} effects")
    states = {(await probe.operation(key)).state for key, _ in sent}
    pending = {common.OPERATION_STATE_PENDING}
    require(states <= {*TERMINAL, *pending}, "an operation without a state")
