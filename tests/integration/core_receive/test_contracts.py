"""Network actions, migration to the next contract, reorganisations.

Method: the chain's events are handed over with their removal, or beyond a final event, as a ledger
connector would.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from photinus_core.model.errors import Unavailable
from photinus_core.ports.connectors import StreamProgress

from tests.integration.core_receive.network import (
    Chain,
    Member,
    SharedDictionary,
    member,
    ref_of,
)
from tests.integration.core_receive.senders import (
    NS,
    Org,
    broadcast,
    claim_node,
    claim_org,
)

WAIT_S = 30.0


@pytest.fixture
async def alice(
    tmp_path: Path, storage: SharedDictionary, chain: Chain, bob: Org
) -> AsyncIterator[Member]:
    async with member(tmp_path, storage, Org("alice")) as made, made.running():
        claims = [claim_org(bob), claim_node(bob)]
        await made.take([chain.pin(claim) for claim in claims])
        await made.wait_state(*claims)
        yield made


async def test_a_root_organisation_ends_a_contract_and_the_next_one_begins(
    alice: Member, chain: Chain, bob: Org
) -> None:
    before, beyond = broadcast(bob, "before"), broadcast(bob, "beyond")
    events = [chain.pin(before), chain.terminate(bob.key), chain.pin(beyond)]
    after = broadcast(bob, "after")
    await alice.take(events)
    await alice.wait_state(before)
    while not alice.switched:
        await alice.settle()
    (row,) = alice.switched
    assert [(c.index, c.final_event, c.final_position) for c in row.contracts] == [
        (0, events[1].id, (events[1].body.chain.block, 0, 3)),  # type: ignore[union-attr]  # known here
        (1, "", None),
    ]
    await alice.take([chain.pin(after, contract=1)])
    await alice.wait_state(after)
    async with alice.store.read(NS) as reader:
        assert await reader.undispatched_pins(-1, 10) == [], "the pin beyond the end is void"
        assert await reader.notes("network_action") == {}
    assert await alice.state(beyond.ids[0]) != "confirmed"


async def test_others_hear_of_the_end_though_their_first_answer_is_a_failure(
    alice: Member, chain: Chain, bob: Org
) -> None:
    """Found by the simulator: pins went on to the ended contract until the next leader."""
    alice.fail_next_switch = True
    await alice.take([chain.terminate(bob.key)])
    while len(alice.switched) < 2:
        await alice.settle()
    first, second = alice.switched
    assert first.contracts == second.contracts
    assert [row.contracts for row in alice.ending] == [first.contracts], "in the end's transaction"


async def test_an_ended_contract_stays_ended_after_a_restart(
    tmp_path: Path, storage: SharedDictionary, chain: Chain, bob: Org
) -> None:
    claims, beyond = [claim_org(bob)], broadcast(bob, "beyond")
    async with member(tmp_path, storage, Org("alice")) as made, made.running():
        await made.take([*[chain.pin(c) for c in claims], chain.terminate(bob.key)])
        while not made.switched:
            await made.settle()
    async with member(tmp_path, storage, Org("alice")) as made, made.running():
        await made.take([chain.pin(beyond)])
        await made.settle()
        async with made.store.read(NS) as reader:
            while await reader.undispatched_pins(-1, 10):
                await made.settle()
        assert await made.state(beyond.ids[0]) != "confirmed"


@pytest.mark.parametrize("action", ["terminate", "unheard of"])
async def test_an_action_of_somebody_who_may_not_is_ignored(
    alice: Member, chain: Chain, bob: Org, action: str
) -> None:
    after = broadcast(bob, "after")
    signer = "0xstranger" if action == "terminate" else bob.key
    await alice.take([chain.terminate(signer, action=action), chain.pin(after)])
    await alice.wait_state(after)
    assert alice.switched == []
    async with alice.store.read(NS) as reader:
        row = await reader.namespace_row()
        assert row is not None
        assert [c.final_event for c in row.contracts] == [""]
        assert await reader.notes("network_action") == {}


async def test_undecided_events_that_were_taken_back_are_forgotten(
    alice: Member, chain: Chain, storage: SharedDictionary, bob: Org
) -> None:
    lost, after = broadcast(bob, "lost"), broadcast(bob, "after")
    event = chain.pin(lost)
    storage.hidden.add(ref_of(event))
    await alice.take([event, chain.pin(after)])
    await alice.settle()
    assert await alice.state(after.ids[0]) == ""
    await alice.take([replace(event, removed=True)])
    await alice.wait_state(after)
    assert await alice.order() == after.ids


@pytest.mark.parametrize("kind", ["pin", "action"])
async def test_what_is_taken_back_while_it_is_decided_is_not_decided(
    alice: Member, chain: Chain, bob: Org, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine decides from memory; by the time of its commit the rows are gone."""
    sent, after = broadcast(bob, "lost"), broadcast(bob, "after")
    event = chain.pin(sent) if kind == "pin" else chain.terminate(bob.key)
    aggregator: Any = alice.aggregator
    commit, raced = aggregator._commit, asyncio.Event()

    async def late(state: object, decisions: object) -> None:
        if not raced.is_set():
            await alice.take([replace(event, removed=True)])
            raced.set()
        await commit(state, decisions)

    monkeypatch.setattr(aggregator, "_commit", late)
    await alice.take([event])
    await asyncio.wait_for(raced.wait(), WAIT_S)
    await alice.take([chain.pin(after)])
    await alice.wait_state(after)
    assert await alice.state(sent.ids[0]) != "confirmed"
    assert alice.switched == []
    await alice.take([chain.pin(sent)])
    await alice.wait_state(sent)
    assert await alice.order() == [*after.ids, *sent.ids]


async def test_a_pin_and_its_removal_in_one_batch_leave_nothing(
    alice: Member, chain: Chain, bob: Org
) -> None:
    event = chain.pin(broadcast(bob, 1))
    action = chain.terminate(bob.key)
    await alice.take([event, action, replace(event, removed=True), replace(action, removed=True)])
    await alice.settle()
    async with alice.store.read(NS) as reader:
        assert await reader.undispatched_pins(-1, 10) == []
        assert await reader.notes("network_action") == {}
    assert alice.switched == []


async def test_a_reorganisation_below_a_decision_halts_the_intake_visibly(
    alice: Member, chain: Chain, bob: Org
) -> None:
    sent = broadcast(bob, 1)
    event = chain.pin(sent)
    await alice.take([event])
    await alice.wait_state(sent)
    before = await alice.log()
    with pytest.raises(Unavailable, match=r"FF19404.*block 3"):
        await alice.take([replace(event, removed=True)])
    with pytest.raises(Unavailable, match="FF19404"):
        await alice.take([chain.pin(broadcast(bob, 2))])
    async with alice.store.read(NS) as reader:
        row = await reader.namespace_row()
    assert row is not None
    assert "block 3" in row.halted
    assert await alice.log() == before, "nothing is undone silently"


async def test_a_fatal_trouble_halts_and_others_are_noted(alice: Member, chain: Chain) -> None:
    await alice.chain.trouble("multiparty/0", "node away", fatal=False)
    assert alice.chain.troubles() == {"multiparty/0": "node away"}
    await alice.chain.trouble("multiparty/0", "checkpoint gone", fatal=True)
    with pytest.raises(Unavailable, match="checkpoint gone"):
        await alice.take([chain.pin(broadcast(Org("x"), 1))])


async def test_progress_moves_checkpoints(alice: Member) -> None:
    await alice.chain.progress(StreamProgress({"multiparty/0": b"42"}, {}, False, False))
    assert await alice.chain.resume() == {"multiparty/0": b"42"}
