"""A batch that is given up: nothing more begins for it, and what waits behind it goes on.

Method: inputs go in, decisions come out; the random walk of `test_batching` cancels too.
"""

from photinus_core.sequencing.batching import (
    CONTRACT_INVOKE_PIN,
    RETRY_FIRST_NS,
    Batching,
    Finish,
    Seal,
    SendPin,
)

from tests.unit.sequencing.test_batching import ALICE, ready, seals


def test_cancel_frees_the_pipe() -> None:
    batching = Batching()
    batching.ready([ready(1, txtype=CONTRACT_INVOKE_PIN), ready(2)])
    (cut,) = batching.poll(0)
    assert isinstance(cut, Seal)
    assert "not being sent" in batching.hold("b1")
    batching.sealed(cut, "b1")
    assert "not failing" in batching.hold("b1")
    batching.poll(0)
    batching.prepared("b1")
    batching.poll(0)
    batching.failed("b1", "reverted", 0)
    assert batching.hold("b1") == "" == batching.may_cancel("b1")
    assert "already" in batching.hold("b1")
    batching.cancelled("b1")
    assert seals(batching.poll(0)) == [("alice2",)]


def test_nothing_begins_for_a_batch_that_is_to_be_cancelled() -> None:
    batching = Batching()
    for name in ("b1", "b2"):
        batching.resume(ALICE, name, "batch_pin", prepared=True)
    assert batching.poll(0) == [SendPin("b1")]
    batching.failed("b1", "away", 0)
    assert batching.poll(RETRY_FIRST_NS) == [SendPin("b1")]
    assert batching.hold("b1") == ""
    assert "right now" in batching.may_cancel("b1"), "what is out may still have its effect"
    batching.failed("b1", "away", RETRY_FIRST_NS)
    assert batching.may_cancel("b1") == ""
    assert batching.poll(10 * RETRY_FIRST_NS) == []
    assert batching.next_due() is None
    batching.release("b1")
    assert batching.poll(10 * RETRY_FIRST_NS) == [SendPin("b1")]


def test_a_batch_whose_pin_went_after_all_is_not_cancelled() -> None:
    batching = Batching()
    batching.resume(ALICE, "b1", "batch_pin", prepared=True)
    batching.poll(0)
    batching.failed("b1", "away", 0)
    batching.poll(RETRY_FIRST_NS)
    assert batching.hold("b1") == ""
    batching.journaled("b1", RETRY_FIRST_NS)
    assert "not failing" in batching.may_cancel("b1")
    batching.release("b1")
    assert batching.poll(RETRY_FIRST_NS) == [Finish("b1")]
    batching.release("b1")
    batching.finished("b1")
    batching.release("b1")
    assert batching.poll(RETRY_FIRST_NS) == []
