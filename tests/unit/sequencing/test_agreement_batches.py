"""Goal: batches that do not match their pins, ended contracts and rebuilt machines change nothing
for the rest.

Method: small chains played by hand on one machine (`kit.Table`); each test is one rule of the
design.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from photinus_core.model.canonical import broadcast_context, hash_text
from photinus_core.sequencing.agreement import Agreement
from photinus_core.sequencing.decisions import (
    ActionDecision,
    BatchVoided,
    MessageDecision,
)
from photinus_core.sequencing.facts import BatchKey
from photinus_core.sequencing.position import Position

from tests.simulation.content import Body, SimBatch, facts_of_batch
from tests.unit.sequencing.kit import (
    ALICE,
    BOB,
    CAROL,
    Table,
    batch_of,
    key_of,
    message,
    root,
)

CONFIRMED, REJECTED, VOID = "confirmed", "rejected", "void"


# Batches that do not match


@pytest.mark.parametrize(
    "contexts",
    [
        (broadcast_context("other"), broadcast_context("b")),
        (broadcast_context("b"), broadcast_context("a")),
        (broadcast_context("a"),),
        (broadcast_context("a"), broadcast_context("b"), broadcast_context("c")),
    ],
)
def test_a_batch_with_other_contexts_is_void_as_a_whole(contexts: tuple[str, ...]) -> None:
    table = Table()
    batch = batch_of(message("m1", "a"), message("m2", "b"))
    table.pin(batch, contexts=contexts)
    table.give(batch)
    assert table.play() == [("batch-m1", "voided")]
    (decision,) = table.decisions
    assert isinstance(decision, BatchVoided)
    assert [m.id for m in decision.messages] == ["m1", "m2"]
    table.pin(batch)
    assert table.play() == [("m1", CONFIRMED), ("m2", CONFIRMED)], "a true pin still counts"


def test_a_defective_batch_is_void() -> None:
    table = Table()
    batch = batch_of(message("m"))
    table.pin(batch)
    facts = facts_of_batch(batch, (), ())
    table.machine.batch_available([replace(facts, defect="data is missing from the manifest")])
    assert table.play() == [("batch-m", "voided")]
    table.pin_and_give(batch_of(message("next")))
    assert table.play() == [("next", CONFIRMED)]


def test_a_message_with_one_topic_twice_voids_its_batch() -> None:
    table = Table()
    table.pin_and_give(batch_of(message("m", "a", "a")))
    assert table.play() == [("batch-m", "voided")]


def test_an_event_without_contexts_is_void() -> None:
    table = Table()
    table.pin_event("stranger", BatchKey("x", hash_text("x"), "nowhere"), ())
    assert table.play() == [("x", "voided")]
    assert table.machine.undecided() == 0


def test_a_batch_under_the_same_id_with_another_hash_is_another_batch() -> None:
    table = Table()
    true = batch_of(message("m"), name="b")
    forged = SimBatch("b", (message("forged"),), None)
    table.pin(true)
    table.give(forged)
    assert table.play() == []
    table.give(true)
    assert table.play() == [("m", CONFIRMED)]


def test_copies_named_by_different_pins_are_different_batches() -> None:
    """The hash does not cover everything, so each pin is decided by the copy it names."""
    table = Table()
    batch = batch_of(message("m"))
    copy = batch.key._replace(payload_ref="another place")
    table.pin_event(key_of(ALICE), copy, (broadcast_context("t"),))
    table.pin_and_give(batch)
    assert table.play() == []
    assert table.reason("m").startswith("behind pin")


# Contracts


def test_terminate_voids_what_is_beyond_it() -> None:
    table = Table()
    before, beyond = batch_of(message("before")), batch_of(message("beyond"))
    table.pin(before)
    table.act("terminate", key_of(ALICE))
    table.pin(beyond)
    table.pin_and_give(batch_of(message("beyond-too", "other")))
    assert table.play() == [
        ("terminate", "applied"),
        ("batch-beyond", "voided"),
        ("batch-beyond-too", "voided"),
    ]
    table.contract, table.block = 1, 0
    table.pin(beyond)
    table.give(before, beyond)
    assert table.play() == [("before", CONFIRMED), ("beyond", CONFIRMED)]


@pytest.mark.parametrize("signer", ["stranger", "child"])
def test_only_a_root_organisation_terminates(signer: str) -> None:
    table = Table()
    claim = message(
        "claim", author="did:firefly:c", key="child", body=Body("child", did="did:firefly:c")
    )
    verification = message(
        "verification",
        body=Body("verification", did="did:firefly:c", parent=ALICE, claim=claim.hash),
    )
    table.pin_and_give(batch_of(claim))
    table.pin_and_give(batch_of(verification))
    table.act("terminate", signer)
    table.pin_and_give(batch_of(message("m")))
    assert table.play()[2:] == [("terminate", "ignored"), ("m", CONFIRMED)]


def test_pins_wait_behind_a_terminate_whose_signer_is_not_settled() -> None:
    table = Table()
    claim = batch_of(root(CAROL))
    table.pin(claim)
    table.act("terminate", key_of(CAROL))
    table.pin_and_give(batch_of(message("m")))
    assert table.play() == []
    assert table.reason("m").startswith("behind network action")
    table.give(claim)
    assert table.play() == [
        (f"claim-{CAROL}", CONFIRMED),
        ("terminate", "applied"),
        ("batch-m", "voided"),
    ]


def test_a_second_terminate_is_beyond_the_first() -> None:
    table = Table()
    table.act("terminate", key_of(ALICE))
    table.act("terminate", key_of(BOB))
    assert table.play() == [("terminate", "applied"), ("terminate", "ignored")]


def test_unknown_actions_are_ignored_by_all() -> None:
    table = Table()
    table.act("dance", key_of(ALICE))
    table.pin_and_give(batch_of(message("m")))
    assert table.play() == [("dance", "ignored"), ("m", CONFIRMED)]
    action = table.decisions[0]
    assert isinstance(action, ActionDecision)
    assert "dance" in action.reason


def test_a_final_event_from_the_store_counts() -> None:
    table = Table(registered=(), final_events={0: Position(0, 5, 0, 0)})
    table.block = 5
    table.pin(batch_of(message("m")))
    assert table.play() == [("batch-m", "voided")]


# Take-over


def test_partly_decided_events_go_on_after_a_rebuild() -> None:
    table = Table()
    batch = batch_of(
        message("m1", "a"), message("m2", "b", body=Body(blob="blob")), message("m3", "c")
    )
    event = table.pin(batch)
    table.give(batch)
    assert table.play() == [("m1", CONFIRMED), ("m3", CONFIRMED)]
    rebuilt = Agreement()
    rebuilt.pins_arrived([replace(event, dispatched=frozenset([0, 2]))])
    rebuilt.batch_available([facts_of_batch(batch, {"blob"}, table.decided)])
    (decision,) = rebuilt.decide(table.view)
    assert isinstance(decision, MessageDecision)
    assert (decision.message.id, decision.pins, decision.position) == (
        "m2",
        range(1, 2),
        event.position._replace(pin=1),
    )
    assert rebuilt.undecided() == 0


def test_a_limit_ends_a_pass_early_and_nothing_is_lost() -> None:
    table = Table()
    for n in range(5):
        table.pin_and_give(batch_of(message(f"m{n}")))
    assert len(table.machine.decide(table.view, 2)) == 2
    assert [name for name, _ in table.play(limit=1)] == ["m2", "m3", "m4"]
