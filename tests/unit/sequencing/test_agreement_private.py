"""Goal: private messages are decided in the order of their keys, whatever arrives when, whoever
pins what.

Method: small chains played by hand on one machine (`kit.Table`) in a group of Alice and Bob; the
rule as a whole is checked against its model by the simulation and by the state machine in
test_agreement_machine.py.
"""

from __future__ import annotations

from photinus_core.model.canonical import hash_text, private_pin
from photinus_core.sequencing.decisions import MessageDecision, WaitReason
from photinus_core.sequencing.facts import BatchFacts, BatchKey, PrivateContext
from photinus_core.sequencing.position import OrderKey, Position

from tests.simulation.content import Body, SimMessage, facts_of_batch
from tests.unit.sequencing.kit import (
    ALICE,
    BOB,
    CAROL,
    GROUP,
    MEMBERS,
    Table,
    batch_of,
    datatype,
    key_of,
    message,
    root,
)

CONFIRMED, REJECTED, VOID = "confirmed", "rejected", "void"


def private(
    name: str, *topics: str, author: str = ALICE, body: Body | None = None, key: str | None = None
) -> SimMessage:
    return message(name, *topics, author=author, group=GROUP, body=body, key=key)


def table_with_group(**arguments: object) -> Table:
    table = Table(**arguments)  # type: ignore[arg-type]  # passed through
    table.know_group()
    return table


def test_chain_order_among_authors() -> None:
    table = table_with_group()
    first, second = batch_of(private("a0", "t")), batch_of(private("b0", "t", author=BOB))
    table.pin_private(first, 0)
    table.pin_private(second, 0)
    table.give(second)
    assert table.play() == []
    assert table.reason("b0").startswith("behind pin")
    table.give(first)
    assert table.play() == [("a0", CONFIRMED), ("b0", CONFIRMED)]


def test_nonces_out_of_order_on_chain() -> None:
    table = table_with_group()
    later, between, earlier = (
        batch_of(private("a1", "t")),
        batch_of(private("b0", "t", author=BOB)),
        batch_of(private("a0", "t")),
    )
    table.pin_private(later, 1)
    table.give(later)
    assert table.play() == []
    assert table.reason("a1") == "earlier nonce not on chain"
    table.pin_private(between, 0)
    table.give(between)
    assert table.play() == [("b0", CONFIRMED)]
    table.pin_private(earlier, 0)
    table.give(earlier)
    assert table.play() == [("a0", CONFIRMED), ("a1", CONFIRMED)]
    decision = table.decisions[-1]
    assert isinstance(decision, MessageDecision)
    (update,) = decision.next_pins
    assert update.nonce == 2
    assert update.hash == private_pin("t", GROUP, ALICE, 2)
    latest = table.pinned[-1].position
    assert update.last_key == OrderKey(latest, 1, table.pinned[-3].position)
    assert OrderKey.from_flat(update.last_key.flat()) == update.last_key


def test_the_expected_pin_holds_rivals_back_until_its_data_is_here() -> None:
    table = table_with_group()
    a0 = batch_of(private("a0", "t", "u"))
    table.pin_private(a0, 0, 0)
    b0 = batch_of(private("b0", "u", author=BOB))
    table.pin_private(b0, 0)
    other = batch_of(private("b-other", "v", author=BOB))
    table.pin_private(other, 0)
    table.give(b0, other)
    assert table.play() == [("b-other", CONFIRMED)]
    table.give(a0)
    assert table.play() == [("a0", CONFIRMED), ("b0", CONFIRMED)]


def test_content_before_group() -> None:
    table = Table()
    batch = batch_of(private("a0", "t"))
    table.pin_private(batch, 0)
    table.give(batch)
    assert table.play() == []
    assert table.reason("a0") == "group unknown"
    table.know_group()
    assert table.play() == [("a0", CONFIRMED)]


def test_a_group_message_makes_the_group_known() -> None:
    table = Table()
    body = Body("group", members=MEMBERS)
    founding = batch_of(message("g", GROUP, group=GROUP, body=body), private("a0", "t"))
    table.pin_private(founding, 0, 0)
    table.give(founding)
    assert table.play() == [("g", CONFIRMED), ("a0", CONFIRMED)]


def test_an_author_outside_the_group_is_void() -> None:
    table = Table(registered=(ALICE, BOB, CAROL))
    table.know_group()
    batch = batch_of(private("c0", "t", author=CAROL))
    table.pin_private(batch, 0)
    table.give(batch)
    assert table.play() == [("c0", VOID)]


def test_a_signer_who_is_not_the_author_is_void_and_the_true_pin_counts() -> None:
    table = table_with_group()
    batch = batch_of(private("a0", "t"))
    table.pin_private(batch, 0, signer=key_of(BOB))
    table.pin_private(batch, 0, signer="stranger")
    table.pin_private(batch, 0)
    table.give(batch)
    assert sorted(table.play()) == [("a0", CONFIRMED), ("a0", VOID), ("a0", VOID)]


def test_a_forged_pin_of_anothers_nonce_holds_up_nobody() -> None:
    table = table_with_group()
    forged = BatchKey("x", hash_text("x"))
    table.pin_event(key_of(BOB), forged, (private_pin("t", GROUP, ALICE, 0),))
    b0 = batch_of(private("b0", "t", author=BOB))
    table.pin_private(b0, 0)
    table.give(b0)
    assert table.play() == [("b0", CONFIRMED)]


def test_a_signer_registered_later_does_not_count() -> None:
    table = Table(registered=(BOB,))
    table.know_group()
    batch = batch_of(private("a0", "t"))
    table.pin_private(batch, 0)
    table.pin_and_give(batch_of(root(ALICE)))
    table.give(batch)
    assert table.play() == [("a0", VOID), (f"claim-{ALICE}", CONFIRMED)]
    table.pin_private(batch, 0)
    assert table.play() == [("a0", CONFIRMED)]


def test_a_signer_not_settled_yet_is_waited_for() -> None:
    table = Table(registered=(BOB,))
    table.know_group()
    claim = batch_of(root(ALICE))
    table.pin(claim)
    a0, b0 = batch_of(private("a0", "t")), batch_of(private("b0", "t", author=BOB))
    table.pin_private(a0, 0)
    table.pin_private(b0, 0)
    table.give(a0, b0)
    assert table.play() == []
    assert table.reason("a0").startswith("definition undecided")
    table.give(claim)
    assert table.play() == [(f"claim-{ALICE}", CONFIRMED), ("a0", CONFIRMED), ("b0", CONFIRMED)]


def test_the_header_key_must_be_the_signer() -> None:
    table = table_with_group()
    batch = batch_of(private("a0", "t", key="another"))
    table.pin_private(batch, 0, signer=key_of(ALICE))
    after = batch_of(private("a1", "t"))
    table.pin_private(after, 1)
    table.give(batch, after)
    assert table.play() == [("a0", REJECTED), ("a1", CONFIRMED)]


def test_of_equal_pins_the_lowest_counts() -> None:
    table = table_with_group()
    one, two = batch_of(private("one", "t")), batch_of(private("two", "t"))
    table.pin_private(one, 0)
    table.pin_private(two, 0)
    table.give(two)
    assert table.play() == []
    table.give(one)
    assert sorted(table.play()) == [("one", CONFIRMED), ("two", VOID)]


def test_a_message_with_one_void_pin_is_void_and_frees_its_others() -> None:
    table = table_with_group()
    one = batch_of(private("one", "t"))
    two = batch_of(private("two", "t", "u"))
    three = batch_of(private("three", "u"))
    table.pin_private(one, 0)
    table.pin_private(two, 0, 0)
    table.pin_private(three, 0)
    table.give(three)
    assert table.play() == []
    table.give(two)
    assert table.play() == [], "whether two counts depends on one"
    table.give(one)
    assert sorted(table.play()) == [("one", CONFIRMED), ("three", CONFIRMED), ("two", VOID)]


def test_a_rival_that_turns_out_void_holds_up_nobody_though_a_batch_never_comes() -> None:
    """The rival is void by one pin; that the other pin's lower twin never comes does not matter."""
    table = table_with_group()
    lost, lower = batch_of(private("lost", "t")), batch_of(private("lower", "u"))
    rival = batch_of(private("rival", "v", "t", "u"))
    table.pin_private(lost, 0)
    table.pin_private(lower, 0)
    table.pin_private(rival, 0, 0, 0)
    table.give(rival)
    b0 = batch_of(private("b0", "v", author=BOB))
    table.pin_private(b0, 0)
    table.give(b0)
    assert table.play() == []
    table.give(lower)
    assert sorted(table.play()) == [("b0", CONFIRMED), ("lower", CONFIRMED), ("rival", VOID)]


def test_a_pin_of_a_used_nonce_is_void_even_when_its_data_is_late() -> None:
    table = table_with_group()
    one, two, three = (
        batch_of(private("one", "t")),
        batch_of(private("two", "t", "u")),
        batch_of(private("three", "u")),
    )
    table.pin_private(one, 0)
    table.give(one)
    assert table.play() == [("one", CONFIRMED)]
    table.pin_private(two, 0, 0)
    table.pin_private(three, 0)
    table.give(three)
    assert table.play() == []
    table.give(two)
    assert sorted(table.play()) == [("three", CONFIRMED), ("two", VOID)]


def test_a_repeated_message_uses_up_its_new_nonce() -> None:
    table = table_with_group()
    again = private("a0", "t")
    first, second, third = (
        batch_of(again),
        batch_of(again, name="again"),
        batch_of(private("a2", "t")),
    )
    table.pin_private(first, 0)
    table.pin_private(second, 1)
    table.pin_private(third, 2)
    table.give(first, second, third)
    assert table.play() == [("a0", CONFIRMED), ("a0", VOID), ("a2", CONFIRMED)]


def test_a_repeated_batch_with_the_same_pins_is_void() -> None:
    table = table_with_group()
    first = private("a0", "t")
    batch, again = batch_of(first), batch_of(first, name="again")
    table.pin_private(batch, 0)
    table.give(batch)
    assert table.play() == [("a0", CONFIRMED)]
    table.pin_private(again, 0)
    table.give(again)
    assert table.play() == [("a0", VOID)]
    assert table.machine.undecided() == 0


def test_nonces_that_cross_block_their_author_only() -> None:
    table = table_with_group()
    one, two = batch_of(private("one", "t", "u")), batch_of(private("two", "t", "u"))
    table.pin_private(one, 0, 1)
    table.pin_private(two, 1, 0)
    b0 = batch_of(private("b0", "t", "u", author=BOB))
    table.pin_private(b0, 0, 0)
    table.give(one, two, b0)
    assert table.play() == [("b0", CONFIRMED)]


def test_content_that_does_not_have_the_pin_of_its_author_frees_the_nonce() -> None:
    table = table_with_group()
    wrong = batch_of(private("wrong", "u"))
    table.pin_event(key_of(ALICE), wrong.key, (private_pin("t", GROUP, ALICE, 0),))
    right, b0 = batch_of(private("right", "t")), batch_of(private("b0", "t", author=BOB))
    table.pin_private(right, 0)
    table.pin_private(b0, 0)
    table.give(right, b0)
    assert table.play() == []
    table.give(wrong)
    assert table.play() == [("right", CONFIRMED), ("b0", CONFIRMED)]
    (explanation,) = table.machine.explain("wrong")
    assert explanation.wait.reason is WaitReason.EARLIER_NONCE_MISSING


def test_a_broadcast_message_in_a_masked_batch_is_void() -> None:
    table = table_with_group()
    key = BatchKey("b", hash_text("b"))
    table.pin_event(key_of(ALICE), key, (hash_text("x"),))
    broadcast = facts_of_batch(batch_of(message("m", "t")), (), ())
    table.machine.batch_available([BatchFacts(key, broadcast.messages)])
    assert table.play() == [("b", "voided")]


def test_references_are_as_of_the_position_not_of_the_decision() -> None:
    table = table_with_group()
    a1 = batch_of(private("a1", "t", body=Body(datatype="d")))
    table.pin_private(a1, 1)
    table.pin_and_give(batch_of(datatype("d", author=BOB)))
    a0 = batch_of(private("a0", "t"))
    table.pin_private(a0, 0)
    table.give(a0, a1)
    assert table.play() == [("datatype-d", CONFIRMED), ("a0", CONFIRMED), ("a1", REJECTED)]


def test_a_message_that_waits_for_a_blob_holds_its_place() -> None:
    table = table_with_group()
    a0 = batch_of(private("a0", "t", body=Body(blob="blob")))
    b0 = batch_of(private("b0", "t", author=BOB))
    table.pin_private(a0, 0)
    table.pin_private(b0, 0)
    table.give(a0, b0)
    assert table.play() == []
    assert table.reason("b0").startswith("behind pin")
    table.machine.blob_available("blob", "blob")
    assert table.play() == [("a0", CONFIRMED), ("b0", CONFIRMED)]


def test_a_gap_fill_cancels() -> None:
    table = table_with_group()
    batch = batch_of(message("fill", "t", group=GROUP, cancels="lost"))
    table.pin_private(batch, 0)
    table.give(batch)
    table.play()
    (decision,) = table.decisions
    assert isinstance(decision, MessageDecision)
    assert decision.cancels == "lost"


def test_masked_pins_that_left_memory_are_asked_for_by_hash() -> None:
    table = table_with_group(masked_events_max=0)
    a0, b0 = batch_of(private("a0", "t")), batch_of(private("b0", "t", author=BOB))
    table.pin_private(a0, 0)
    assert table.machine.knows(a0.key), "its content was not asked for yet"
    event = table.pin_private(b0, 0)
    table.machine.wanted()
    table.machine.pins_arrived([event])
    assert not table.machine.knows(a0.key)
    table.give(b0)
    assert table.play() == [], "a0 is found by its hash, and holds b0 back"
    assert private_pin("t", GROUP, ALICE, 0) in table.wanted_hashes
    table.machine.pins_arrived([table.pinned[-2]])
    table.give(a0)
    assert table.play() == [("a0", CONFIRMED), ("b0", CONFIRMED)]


def test_a_predecessor_that_was_not_looked_up_is_not_missing() -> None:
    """Found by the simulator: a pin that was looked up made the next hash of its author's run
    known, and before that was looked up a rival behind it counted as one that is not due yet.
    """
    table = table_with_group(masked_complete=False)
    a0, a1 = batch_of(private("a0", "u")), batch_of(private("a1", "u"))
    rival = batch_of(private("a2", "t", "u"))
    own = batch_of(private("b0", "t", author=BOB))
    at_takeover = table_with_group(masked_complete=False)
    at_takeover.pinned = [
        table.pin_private(a0, 0),
        table.pin_private(a1, 1),
        table.pin_private(rival, 0, 2),
        table.pin_private(own, 0),
    ]
    at_takeover.machine.pins_arrived(at_takeover.pinned[2:])
    at_takeover.give(rival, own)
    assert at_takeover.play() == [], "the others are found by their hashes, one after the other"
    at_takeover.give(a0, a1)
    assert [name for name, _ in at_takeover.play()] == ["a0", "a1", "a2", "b0"]


def test_contexts_that_left_memory_are_loaded_again() -> None:
    table = table_with_group(private_contexts_max=0)
    for nonce, topic in enumerate(["t", "u", "t", "t", "u"]):
        batch = batch_of(private(f"m{nonce}", topic))
        table.pin_private(batch, sum(1 for t in ["t", "u", "t", "t", "u"][:nonce] if t == topic))
        table.give(batch)
        assert table.play() == [(f"m{nonce}", CONFIRMED)]
    table.machine.contexts_loaded([])
    assert len(table.machine._private._contexts) <= 1


def test_a_stored_chain_goes_on_where_it_was() -> None:
    before = table_with_group()
    batch = batch_of(private("a0", "t"))
    before.pin_private(batch, 0)
    before.give(batch)
    before.play()
    after = table_with_group()
    after.block = before.block
    after.next_pins = before.next_pins
    a1 = batch_of(private("a1", "t"))
    after.pin_private(a1, 1)
    after.give(a1)
    assert after.play() == [("a1", CONFIRMED)]
    stored = after.next_pins["t", GROUP][ALICE]
    assert stored.nonce == 2
    assert stored.last_key is not None
    assert stored.last_key.own == after.pinned[-1].position


def test_a_very_long_run_of_nonces_is_no_problem() -> None:
    table = table_with_group()
    count = 3_000
    batches = [batch_of(private(f"a{n}", "t", "u")) for n in range(count)]
    for n, batch in enumerate(batches):
        table.pin_private(batch, n, n)
    table.give(*batches[1:])
    b0 = batch_of(private("b0", "t", author=BOB))
    table.pin_private(b0, 0)
    table.give(b0)
    assert table.play() == []
    table.give(batches[0])
    assert [name for name, _ in table.play()] == [*(f"a{n}" for n in range(count)), "b0"]


def test_wanted_names_contexts_until_they_are_loaded() -> None:
    table = table_with_group()
    batch = batch_of(private("a0", "t"))
    table.pin_private(batch, 0)
    table.give(batch)
    assert table.machine.decide(table.view) == []
    wanted = table.machine.wanted()
    assert wanted.contexts == (PrivateContext("t", GROUP),)
    assert table.machine.wanted().contexts == wanted.contexts
    assert table.play() == [("a0", CONFIRMED)]
    assert not table.machine.wanted()


def test_positions_of_pins_are_those_of_messages() -> None:
    table = table_with_group()
    batch = batch_of(private("a0", "t", "u"), private("a1", "t"))
    event = table.pin_private(batch, 0, 0, 1)
    table.give(batch)
    table.play()
    positions = [d.position for d in table.decisions if isinstance(d, MessageDecision)]
    assert positions == [event.position, event.position._replace(pin=2)]
    assert isinstance(positions[0], Position)
