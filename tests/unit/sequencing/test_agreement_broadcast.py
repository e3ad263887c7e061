"""Goal: broadcasts are decided in chain order, as of their position, whatever arrives when.

Method: small chains played by hand on one machine (`kit.Table`); each test is one rule of the
design.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from photinus_core.model.canonical import broadcast_context, hash_text
from photinus_core.sequencing.decisions import (
    MessageDecision,
    WaitReason,
)
from photinus_core.sequencing.facts import BatchKey, Need, NeedKind, PinEvent, blob_need
from photinus_core.sequencing.position import Position
from photinus_core.sequencing.view import Await, Candidate, Verdict

from tests.simulation.content import Body, Definitions, facts_of_batch
from tests.unit.sequencing.kit import (
    ALICE,
    BOB,
    CAROL,
    Table,
    batch_of,
    datatype,
    key_of,
    message,
    root,
)

CONFIRMED, REJECTED, VOID = "confirmed", "rejected", "void"


def test_messages_of_a_topic_wait_for_an_earlier_batch() -> None:
    table = Table()
    batches = [
        batch_of(message(f"m{n}", "t", author=who)) for n, who in enumerate((ALICE, BOB, ALICE))
    ]
    for batch in batches:
        table.pin(batch)
    table.give(batches[0], batches[2])
    assert table.play() == [("m0", CONFIRMED)]
    assert table.reason("m2").startswith("behind pin")
    table.give(batches[1])
    assert table.play() == [("m1", CONFIRMED), ("m2", CONFIRMED)]
    assert table.machine.undecided() == 0


def test_a_message_waits_until_it_is_first_in_all_its_topics() -> None:
    table = Table()
    first, second, third = (
        batch_of(message("m1", "a")),
        batch_of(message("m2", "a", "b")),
        batch_of(message("m3", "b")),
    )
    for batch in (first, second, third):
        table.pin(batch)
    table.give(third, second)
    assert table.play() == []
    table.give(first)
    assert [name for name, _ in table.play()] == ["m1", "m2", "m3"]


def test_other_topics_go_on() -> None:
    table = Table()
    table.pin(batch_of(message("late", "a")))
    table.pin_and_give(batch_of(message("m", "b")))
    assert table.play() == [("m", CONFIRMED)]


def test_content_may_come_before_its_pins() -> None:
    table = Table()
    batch = batch_of(message("m"))
    table.give(batch)
    assert table.play() == []
    table.pin(batch)
    assert table.play() == [("m", CONFIRMED)]


def test_inputs_are_idempotent() -> None:
    table = Table()
    batch = batch_of(message("m"))
    event = table.pin(batch)
    table.give(batch, batch)
    table.machine.pins_arrived([event])
    assert table.play() == [("m", CONFIRMED)]
    table.machine.pins_arrived([event])
    table.give(batch)
    assert table.play() == []


def test_a_repeated_message_is_decided_once() -> None:
    table = Table()
    again = message("m")
    table.pin_and_give(batch_of(again))
    table.pin_and_give(batch_of(again, name="again"))
    assert table.play() == [("m", CONFIRMED), ("m", VOID)]
    table.pin_and_give(batch_of(again, name="and-again"))
    assert table.play() == [("m", VOID)]


def test_two_messages_with_one_id_are_two_messages() -> None:
    table = Table()
    table.pin_and_give(batch_of(message("m", "a")))
    table.pin_and_give(batch_of(message("m", "b", author=BOB), name="other"))
    assert table.play() == [("m", CONFIRMED), ("m", CONFIRMED)]


# Who signed


def test_an_unregistered_signer_is_rejected() -> None:
    table = Table()
    table.pin_and_give(batch_of(message("m", author=CAROL)))
    table.pin_and_give(batch_of(root(CAROL)))
    table.pin_and_give(batch_of(message("later", author=CAROL)))
    assert dict(table.play()) == {
        "m": REJECTED,
        f"claim-{CAROL}": CONFIRMED,
        "later": CONFIRMED,
    }


def test_a_signer_is_settled_once_a_lower_batch_that_may_register_it_is_here() -> None:
    table = Table()
    claim = batch_of(root(CAROL))
    table.pin(claim)
    table.pin_and_give(batch_of(message("m", author=CAROL)))
    assert table.play() == []
    assert table.reason("m").startswith("definition undecided")
    table.give(claim)
    assert table.play() == [(f"claim-{CAROL}", CONFIRMED), ("m", CONFIRMED)]


def test_messages_in_the_batch_of_the_claim_come_too_early() -> None:
    """Members without the batch's content could not tell that a claim is in it."""
    table = Table()
    table.pin_and_give(batch_of(root(CAROL), message("m", author=CAROL)))
    assert table.play() == [(f"claim-{CAROL}", CONFIRMED), ("m", REJECTED)]


def test_another_identity_cannot_sign_for_an_author() -> None:
    table = Table()
    table.pin_and_give(batch_of(message("m", author=ALICE, key=key_of(BOB))))
    assert table.play() == [("m", REJECTED)]
    (decision,) = table.decisions
    assert isinstance(decision, MessageDecision)
    assert BOB in decision.reason


def test_a_message_without_key_is_rejected() -> None:
    table = Table()
    batch = batch_of(message("m", key=""))
    table.pin(batch, signer=key_of(ALICE))
    table.give(batch)
    assert table.play() == [("m", REJECTED)]


def test_a_pin_by_a_third_party_does_not_spoil_the_message() -> None:
    table = Table()
    batch = batch_of(message("m"))
    table.pin(batch, signer=key_of(BOB))
    table.pin(batch)
    table.give(batch)
    assert sorted(table.play()) == [("m", CONFIRMED), ("m", VOID)]


def test_garbage_by_an_unknown_signer_holds_up_nobody() -> None:
    table = Table()
    table.pin_event("stranger", BatchKey("x", hash_text("x"), "nowhere"), (broadcast_context("t"),))
    table.pin_and_give(batch_of(message("m")))
    assert table.play() == [("m", CONFIRMED)]
    (waiting,) = table.machine.waiting()
    assert waiting.wait.reason is WaitReason.BATCH_MISSING


def test_garbage_by_an_unknown_signer_holds_up_identities_of_its_topic() -> None:
    table = Table()
    claim = root(CAROL)
    garbage = BatchKey("x", hash_text("x"), "nowhere")
    table.pin_event("stranger", garbage, (broadcast_context(claim.topics[0]),))
    table.pin_and_give(batch_of(claim))
    assert table.play() == []
    assert table.reason(claim.id).startswith("behind pin")


def test_an_early_message_is_decided_before_its_repetition() -> None:
    """The rejected first pin and the good second one must not change places by what arrives when."""
    table = Table()
    ahead = batch_of(message("ahead", author=BOB))
    table.pin(ahead)
    table.pin_and_give(batch_of(message("m", author=CAROL)))
    table.pin_and_give(batch_of(root(CAROL)))
    table.pin_and_give(batch_of(message("m", author=CAROL), name="again"))
    assert table.play() == [(f"claim-{CAROL}", CONFIRMED)]
    table.give(ahead)
    assert table.play() == [("ahead", CONFIRMED), ("m", REJECTED), ("m", VOID)]


def test_a_claim_waits_for_all_lower_batches_of_its_key() -> None:
    table = Table()
    unknown = batch_of(message("m", "elsewhere", author=CAROL))
    table.pin(unknown)
    table.pin_and_give(batch_of(root(CAROL)))
    assert table.play() == []
    assert table.reason(f"claim-{CAROL}").startswith("definition undecided")
    table.give(unknown)
    assert table.play() == [("m", REJECTED), (f"claim-{CAROL}", CONFIRMED)]


def test_one_key_has_one_owner_whichever_claim_is_here_first() -> None:
    table = Table()
    first, second = root(CAROL, "shared"), root("did:firefly:org/dave", "shared")
    one, other = batch_of(first), batch_of(second)
    table.pin(one)
    table.pin(other)
    table.give(other)
    assert table.play() == []
    table.give(one)
    assert table.play() == [(first.id, CONFIRMED), (second.id, REJECTED)]


def test_two_claims_of_one_key_in_one_batch() -> None:
    table = Table()
    first, second = root(CAROL, "shared"), root("did:firefly:org/dave", "shared")
    stray = BatchKey("x", hash_text("x"), "nowhere")
    table.pin_event("stranger", stray, (broadcast_context(first.topics[0]),))
    table.pin_and_give(batch_of(first, second))
    assert table.play() == [], "the second must not overtake the first, which waits in its topic"


@pytest.mark.parametrize("claim_first", [True, False])
def test_a_child_is_registered_by_claim_and_verification(claim_first: bool) -> None:
    table = Table()
    child = "did:firefly:child"
    claim = message("claim", author=child, body=Body("child", did=child, parent=ALICE))
    verification = message(
        "verification", body=Body("verification", did=child, parent=ALICE, claim=claim.hash)
    )
    pair = [batch_of(claim), batch_of(verification)]
    if not claim_first:
        pair.reverse()
    table.pin(pair[0])
    table.pin_and_give(batch_of(message("early", author=child)))
    table.pin(pair[1])
    table.pin_and_give(batch_of(message("late", author=child)))
    early = [] if claim_first else [("early", REJECTED)]
    assert table.play() == early, "nobody claimed the key so far, or somebody may have"
    table.give(*pair)
    table.play()
    assert dict(table.log) == {
        "claim": CONFIRMED,
        "verification": CONFIRMED,
        "early": REJECTED,
        "late": CONFIRMED,
    }


def test_a_verification_waits_for_the_owner_of_the_childs_key() -> None:
    table = Table()
    child = "did:firefly:child"
    claim = message(
        "claim", author=child, key="shared", body=Body("child", did=child, parent=ALICE)
    )
    verification = message(
        "verification", body=Body("verification", did=child, parent=ALICE, claim=claim.hash)
    )
    rival = batch_of(root(CAROL, "shared"))
    table.pin_and_give(batch_of(claim))
    table.pin(rival)
    table.pin_and_give(batch_of(verification))
    assert table.play() == [("claim", CONFIRMED)]
    table.give(rival)
    assert table.play() == [(f"claim-{CAROL}", CONFIRMED), ("verification", REJECTED)]


# References as of position


def test_a_datatype_below_is_waited_for() -> None:
    table = Table()
    definition = batch_of(datatype("d", author=BOB))
    table.pin(definition)
    table.pin_and_give(batch_of(message("m", body=Body(datatype="d"))))
    assert table.play() == []
    assert table.reason("m").startswith("definition undecided")
    table.give(definition)
    assert table.play() == [("datatype-d", CONFIRMED), ("m", CONFIRMED)]


def test_a_datatype_above_does_not_count() -> None:
    table = Table()
    late = batch_of(message("m", body=Body(datatype="d")))
    table.pin(late)
    table.pin_and_give(batch_of(datatype("d")))
    assert table.play() == [("datatype-d", CONFIRMED)]
    table.give(late)
    assert table.play() == [("m", REJECTED)]


def test_a_found_datatype_needs_no_waiting_for_its_topic() -> None:
    table = Table()
    table.pin_and_give(batch_of(datatype("d")))
    table.pin(batch_of(datatype("d", author=BOB, message_id="second")))
    table.pin_and_give(batch_of(message("m", body=Body(datatype="d"))))
    assert table.play() == [("datatype-d", CONFIRMED), ("m", CONFIRMED)]


def test_a_stray_cannot_be_a_datatype() -> None:
    table = Table()
    context = broadcast_context(datatype("d").topics[0])
    table.pin_event("stranger", BatchKey("x", hash_text("x"), "nowhere"), (context,))
    table.pin_and_give(batch_of(message("m", body=Body(datatype="d"))))
    assert table.play() == [("m", REJECTED)]


def test_definition_and_use_in_one_batch() -> None:
    table = Table()
    table.pin_and_give(batch_of(datatype("d"), message("m", body=Body(datatype="d"))))
    assert table.play() == [("datatype-d", CONFIRMED), ("m", CONFIRMED)]


def test_a_definition_under_another_topic_is_rejected() -> None:
    table = Table()
    table.pin_and_give(batch_of(message("m", "t", body=Body("datatype", name="d"))))
    assert table.play() == [("m", REJECTED)]


# What never comes


def never(name: str, *contexts: str) -> tuple[BatchKey, tuple[str, ...]]:
    """A batch whose content nobody has."""
    return BatchKey(name, hash_text(name), "nowhere"), contexts


def test_a_key_registered_below_counts_though_a_later_batch_of_it_never_comes() -> None:
    table = Table()
    claim = batch_of(root(CAROL))
    table.pin(claim)
    table.pin_event(key_of(CAROL), *never("x", broadcast_context("elsewhere")))
    table.pin_and_give(batch_of(message("m", author=CAROL)))
    assert table.play() == []
    table.give(claim)
    assert table.play() == [(f"claim-{CAROL}", CONFIRMED), ("m", CONFIRMED)]


def test_a_datatype_below_counts_though_a_later_pin_of_its_topic_never_comes() -> None:
    table = Table()
    definition = batch_of(datatype("d"))
    table.pin(definition)
    table.pin_event(key_of(BOB), *never("x", broadcast_context(definition.messages[0].topics[0])))
    table.pin_and_give(batch_of(message("m", body=Body(datatype="d"))))
    assert table.play() == []
    table.give(definition)
    assert table.play() == [("datatype-d", CONFIRMED), ("m", CONFIRMED)]


@pytest.mark.parametrize("claim_first", [True, False])
def test_a_child_below_counts_though_a_later_pin_of_its_topic_never_comes(
    claim_first: bool,
) -> None:
    table = Table()
    child = "did:firefly:child"
    claim = message("claim", author=child, body=Body("child", did=child, parent=ALICE))
    verification = message(
        "verification", body=Body("verification", did=child, parent=ALICE, claim=claim.hash)
    )
    pair = [batch_of(claim), batch_of(verification)]
    if not claim_first:
        pair.reverse()
    table.pin_and_give(pair[0])
    table.pin(pair[1])
    table.pin_event(key_of(BOB), *never("x", broadcast_context(claim.topics[0])))
    table.pin_and_give(batch_of(message("m", author=child)))
    assert len(table.play()) == 1
    table.give(pair[1])
    assert table.play() == [(pair[1].messages[0].id, CONFIRMED), ("m", CONFIRMED)]


# Needs


def test_a_missing_blob_is_waited_for_in_place() -> None:
    table = Table()
    table.pin_and_give(batch_of(message("m1", body=Body(blob="blob"))))
    table.pin_and_give(batch_of(message("m2")))
    assert table.play() == []
    (explanation,) = table.machine.explain("m1")
    assert explanation.wait.reason is WaitReason.BLOB_MISSING
    assert explanation.wait.need == blob_need("blob", "blob")
    table.machine.blob_available("blob", "blob")
    assert table.play() == [("m1", CONFIRMED), ("m2", CONFIRMED)]


def test_a_blob_may_come_while_the_message_waits_for_something_else() -> None:
    table = Table()
    first = batch_of(message("m1"))
    table.pin(first)
    table.pin_and_give(batch_of(message("m2", body=Body(blob="blob"))))
    assert table.play() == []
    table.machine.blob_available("blob", "blob")
    assert table.play() == []
    table.give(first)
    assert table.play() == [("m1", CONFIRMED), ("m2", CONFIRMED)]


def test_a_need_that_can_never_be_met_rejects() -> None:
    table = Table()
    batch = batch_of(message("m"))
    need = Need(NeedKind.TRANSFER, batch.messages[0].hash)
    facts = facts_of_batch(batch, (), ())
    table.pin(batch)
    table.machine.batch_available(
        [replace(facts, messages=(replace(facts.messages[0], needs=frozenset([need])),))]
    )
    assert table.play() == []
    assert table.reason("m").startswith("transfer missing")
    table.machine.need_failed(need, "the pool's events have passed the pin without it")
    assert table.play() == [("m", REJECTED)]


def test_the_view_may_ask_for_time() -> None:
    table = Table()
    pool = Need(NeedKind.POOL, "pool1")
    active = False

    class Pools(Definitions):
        def judge(self, candidate: Candidate) -> Verdict:
            return super().judge(candidate) if active else Await(pool)

    view = Pools()
    view.owners = table.view.owners
    table.view = view
    table.pin_and_give(batch_of(message("m")))
    assert table.play() == []
    assert table.reason("m") == "pool activating: pool1"
    active = True
    table.machine.need_met(pool)
    assert table.play() == [("m", CONFIRMED)]


def test_a_bad_value_is_rejected_and_the_topic_goes_on() -> None:
    table = Table()
    table.pin_and_give(batch_of(message("m1", body=Body(good=False)), message("m2")))
    assert table.play() == [("m1", REJECTED), ("m2", CONFIRMED)]


def test_explain_tells_since_when() -> None:
    table = Table()
    first, second = batch_of(message("m1")), batch_of(message("m2"))
    table.pin(first, at=10)
    table.pin(second, at=20)
    table.give(second, at=30)
    table.play()
    (explanation,) = table.machine.explain("m2")
    assert explanation.wait.since == 30
    assert explanation.wait.behind == table.pinned[-2].position
    (missing,) = table.machine.explain_batch("batch-m1")
    assert (missing.wait.reason, missing.wait.since) == (WaitReason.BATCH_MISSING, 10)
    table.machine.need_met(blob_need("x", "x"), at=40)
    table.play()
    assert table.machine.explain("m2")[0].wait.since == 30
    assert table.machine.explain("unknown") == []


def test_work_is_proportional_to_what_changed() -> None:
    """Thousands of messages parked behind one: each is looked at a bounded number of times."""
    table = Table()
    count = 3_000
    first = batch_of(message("first"))
    table.pin(first)
    for n in range(count):
        table.pin_and_give(batch_of(message(f"m{n}")))
    attempts = 0
    original = table.machine._try_occurrence

    def counted(*arguments: object) -> object:
        nonlocal attempts
        attempts += 1
        return original(*arguments)  # type: ignore[arg-type]  # passed through

    table.machine._try_occurrence = counted  # type: ignore[method-assign, assignment]  # a probe
    assert table.play() == []
    table.give(first)
    assert len(table.play()) == count + 1
    assert attempts <= 3 * count


def test_positions_order_events_not_arrival_of_pin_events_by_id() -> None:
    assert Position(0, 9, 0, 0) < Position(0, 10, 0, 0) < Position(1, 1, 0, 0)
    assert PinEvent(Position(0, 1, 0, 0), "k", BatchKey("b", "h"), ()).masked
