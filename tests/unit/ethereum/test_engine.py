"""Goal: a journaled transaction reaches the chain once, whatever the node, the fees or others with the key do.

Method: the whole engine over an in-memory node that is made to lose, refuse, outbid or reorganise; the chain is
counted at the end.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from photinus_ethereum import settlement
from photinus_ethereum.engine import Identity, check_chain, identify
from photinus_ethereum.journal import CANCELLED, FAILED, SUCCEEDED, Journal
from photinus_ethereum.keys import from_hex
from photinus_ethereum.rpc import Call, NodeUnavailableError, Outcome, RpcError
from photinus_ethereum.transactions import Fees, Payload, parse, sign
from photinus_sdk.errors import Exhausted, InsufficientFunds, Refused, Reverted, Unavailable

from tests.support.evm_engine import KEY, SIGNER, STREAM, WAIT_S, Rig, request, rig, until
from tests.support.evm_node import CHAIN_ID, EvmNode


async def ready(rig_: Rig) -> None:
    await until(lambda: rig_.engine.chain.available, "the node")


async def ended(rig_: Rig, count: int) -> dict[str, int]:
    """States of keys, once so many have ended."""
    async with asyncio.timeout(WAIT_S):
        while len(found := await rig_.updates()) < count:
            await asyncio.sleep(0.005)
    return {key: int(update.state) for key, update in found.items()}


def refusing(method: str, *messages: str) -> Callable[[str, Sequence[Any]], RpcError | None]:
    """Refuses the first calls of a method, one message each."""
    left = list(messages)

    def refuse(called: str, _: Sequence[Any]) -> RpcError | None:
        return RpcError(-32000, left.pop(0)) if called == method and left else None

    return refuse


async def test_order_of_calls_is_order_of_nonces(tmp_path: Path) -> None:
    node = EvmNode()
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        keys = [f"ns1:{n}" for n in range(40)]
        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(rig_.submit(key, key.encode()))
        await until(lambda: len(node.pool) == len(keys))
        node.mine()
        assert set((await ended(rig_, len(keys))).values()) == {SUCCEEDED}
        assert [parse(tx.raw).payload.data.decode() for tx in node.on_chain()] == keys
        assert rig_.engine.pool.size == 0


class NarrowNode(EvmNode):
    """Answers at most so many calls for receipts at once, and none of more."""

    receipts_max = 10

    async def call_many(self, calls: Sequence[Call]) -> list[Outcome]:
        asked = sum(method == "eth_getTransactionReceipt" for method, _ in calls)
        if asked > self.receipts_max:
            return [NodeUnavailableError("too many calls are waiting", sent=False)] * len(calls)
        return await super().call_many(calls)


async def test_many_receipts_are_asked_for_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "RECEIPTS_MAX", NarrowNode.receipts_max)
    node, keys = NarrowNode(), [f"ns1:{n}" for n in range(35)]
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        for key in keys:
            await rig_.submit(key)
        await until(lambda: len(node.pool) == len(keys))
        node.mine()
        assert set((await ended(rig_, len(keys))).values()) == {SUCCEEDED}


async def test_an_end_waits_for_confirmations(tmp_path: Path) -> None:
    node = EvmNode()
    async with rig(node, tmp_path / "j", confirmations=3) as rig_:
        await ready(rig_)
        await rig_.submit("ns1:0")
        await until(lambda: bool(node.pool))
        node.mine(3)
        await until(lambda: rig_.engine.chain.tip is not None and rig_.engine.chain.tip.number == 3)
        assert await rig_.updates() == {}
        node.mine()
        update = (await ended(rig_, 1), (await rig_.updates())["ns1:0"])[1]
        assert '"protocolId":"000000000001/000000"' in update.output_json
        assert update.external_id == node.on_chain()[0].hash


async def test_a_transaction_the_pool_lost_is_sent_again(tmp_path: Path) -> None:
    node = EvmNode()
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        await rig_.submit("ns1:0")
        await until(lambda: bool(node.pool))
        node.pool.clear()
        await until(lambda: bool(node.pool), "the transaction at the node again")
        node.mine()
        assert await ended(rig_, 1) == {"ns1:0": SUCCEEDED}


async def test_a_reorganised_transaction_is_sent_again_and_told_once(tmp_path: Path) -> None:
    node = EvmNode()
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        for n in range(3):
            await rig_.submit(f"ns1:{n}")
            await until(lambda: bool(node.pool))
            node.mine()
        await ended(rig_, 3)
        before = {tx.hash for tx in node.on_chain()}
        node.reorganise(2)
        await until(lambda: len(node.pool) == 2, "the lost ones at the node again")
        node.mine()
        await until(lambda: rig_.engine.pool.size == 0)
        assert {tx.hash for tx in node.on_chain()} == before
        assert len(await rig_.updates()) == 3
        # The signer goes on behind them.
        await rig_.submit("ns1:3")
        await until(lambda: bool(node.pool))
        node.mine()
        await ended(rig_, 4)


async def test_what_a_reorganisation_took_while_away_is_sent_again(tmp_path: Path) -> None:
    node = EvmNode()
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        await rig_.submit("ns1:0")
        await until(lambda: bool(node.pool))
        node.mine()
        await ended(rig_, 1)
    node.reorganise(1)
    async with rig(node, tmp_path / "j") as rig_:
        await until(lambda: bool(node.pool), "the lost one at the node again")


async def test_a_transaction_not_mined_is_replaced_for_more(tmp_path: Path) -> None:
    node = EvmNode()
    async with rig(node, tmp_path / "j", replace_after_s=0.1) as rig_:
        await ready(rig_)
        first = await rig_.submit("ns1:0")
        await until(lambda: any(tx.hash != first for tx in node.pool.values()), "a replacement")
        node.mine()
        assert await ended(rig_, 1) == {"ns1:0": SUCCEEDED}
        (mined,) = node.on_chain()
        operation = await rig_.journal.get(STREAM, "ns1:0")
        assert operation is not None
        assert operation.external_id == mined.hash != first
        # Each offer was at least 10 % above the one before.
        assert mined.max_fee * 10 >= Fees(3 * 10**9, 10**9).max_fee * 11


async def test_a_former_attempt_may_be_the_one_that_is_mined(tmp_path: Path) -> None:
    node = EvmNode()
    async with rig(node, tmp_path / "j", replace_after_s=0.1) as rig_:
        await ready(rig_)
        first = await rig_.submit("ns1:0")
        await until(lambda: bool(node.pool))
        original = dict(node.pool)
        await until(lambda: any(tx.hash != first for tx in node.pool.values()))
        node.pool = original
        node.mine()
        assert await ended(rig_, 1) == {"ns1:0": SUCCEEDED}
        operation = await rig_.journal.get(STREAM, "ns1:0")
        assert operation is not None
        assert operation.external_id == first


async def test_an_offer_called_too_low_is_raised(tmp_path: Path) -> None:
    node = EvmNode()
    node.refuse = refusing("eth_sendRawTransaction", "transaction underpriced", "fee too low")
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        await rig_.submit("ns1:0")
        await until(lambda: bool(node.pool))
        node.mine()
        assert await ended(rig_, 1) == {"ns1:0": SUCCEEDED}


@pytest.mark.parametrize(
    "message", ["txpool is full", "something never heard of", "insufficient funds"]
)
async def test_a_refusal_that_may_pass_is_waited_out(tmp_path: Path, message: str) -> None:
    node = EvmNode()
    node.refuse = refusing("eth_sendRawTransaction", message)
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        await rig_.submit("ns1:0")
        await rig_.submit("ns1:1")
        await until(lambda: len(node.pool) == 2)
        node.mine()
        assert set((await ended(rig_, 2)).values()) == {SUCCEEDED}


async def test_a_transaction_no_node_takes_fails_and_lets_others_pass(tmp_path: Path) -> None:
    node = EvmNode()
    node.refuse = refusing("eth_sendRawTransaction", "exceeds block gas limit")
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        await rig_.submit("ns1:0")
        await rig_.submit("ns1:1")
        await until(lambda: len(node.pool) == 2)
        node.mine()
        assert await ended(rig_, 2) == {"ns1:0": FAILED, "ns1:1": SUCCEEDED}
        assert "exceeds block gas limit" in (await rig_.updates())["ns1:0"].error


async def test_a_gap_is_filled(tmp_path: Path) -> None:
    """The journal fails for one transaction; those behind it must not wait for ever."""
    node = EvmNode()
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        await rig_.submit("ns1:0")
        lane = rig_.engine.pool.lane(SIGNER)
        assert lane.next_nonce == 1
        lane.next_nonce = 3
        await rig_.submit("ns1:1")
        await until(lambda: len(node.pool) == 4, "two empty transactions")
        node.mine()
        assert set((await ended(rig_, 2)).values()) == {SUCCEEDED}


async def test_a_nonce_used_by_others_moves_the_transaction(tmp_path: Path) -> None:
    node = EvmNode()
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        await rig_.submit("ns1:0", b"ours")
        await until(lambda: bool(node.pool))
        node.pool.clear()
        foreign = sign(
            Payload(bytes(20), 1, b"", 21_000), 0, Fees(10**12, 10**12), CHAIN_ID, from_hex(KEY)
        )
        node.eth_sendRawTransaction("0x" + foreign.raw.hex())
        node.mine()
        await until(lambda: bool(node.pool), "ours with another nonce")
        node.mine()
        assert await ended(rig_, 1) == {"ns1:0": SUCCEEDED}
        assert [parse(tx.raw).payload.data for tx in node.on_chain()] == [b"", b"ours"]


async def test_nonces_of_others_at_the_node_are_passed_over(tmp_path: Path) -> None:
    node = EvmNode()
    foreign = sign(
        Payload(bytes(20), 1, b"", 21_000), 0, Fees(10**12, 10**12), CHAIN_ID, from_hex(KEY)
    )
    node.eth_sendRawTransaction("0x" + foreign.raw.hex())
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        await rig_.submit("ns1:0")
        await until(lambda: len(node.pool) == 2)
        assert {tx.nonce for tx in node.pool.values()} == {0, 1}
        assert foreign.hash in {tx.hash for tx in node.pool.values()}


def holding(node: EvmNode) -> asyncio.Event:
    """From now on the node takes no transaction until the event is set: what is queued stays unseen."""
    released = asyncio.Event()
    original = node.call_many

    async def slow(calls: Any) -> Any:
        if any(method == "eth_sendRawTransaction" for method, _ in calls):
            await released.wait()
        return await original(calls)

    node.call_many = slow  # type: ignore[method-assign]  # the network, not the node
    return released


async def test_cancelling_what_no_node_has_seen(tmp_path: Path) -> None:
    node = EvmNode()
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        lane = rig_.engine.pool.lane(SIGNER)
        await rig_.submit("ns1:0", b"first")
        await until(lambda: len(node.pool) == 1)
        held = holding(node)
        await rig_.submit("ns1:1", b"second")
        await until(lambda: lane.open[1].attempted)
        await rig_.submit("ns1:2", b"third")
        cancel = rig_.engine.sender.cancel
        assert await cancel(STREAM.text, "ns1:2")
        assert not await cancel(STREAM.text, "ns1:1")
        assert not await cancel(STREAM.text, "ns1:9")
        held.set()
        await until(lambda: len(node.pool) == 3)
        node.mine()
        states = await ended(rig_, 3)
        assert states == {"ns1:0": SUCCEEDED, "ns1:1": SUCCEEDED, "ns1:2": CANCELLED}
        assert [parse(tx.raw).payload.data for tx in node.on_chain()] == [b"first", b"second", b""]


async def test_a_cancellation_whose_caller_gave_up_is_whole(tmp_path: Path) -> None:
    """Cancelled in the journal, the transaction must not be sent, whatever became of the call that asked."""
    node = EvmNode()
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        lane = rig_.engine.pool.lane(SIGNER)
        held = holding(node)
        await rig_.submit("ns1:0", b"first")
        await until(lambda: lane.open[0].attempted)
        await rig_.submit("ns1:1", b"second")
        asking = asyncio.create_task(rig_.engine.sender.cancel(STREAM.text, "ns1:1"))
        await asyncio.sleep(0)
        assert lane.open[1].held
        asking.cancel()
        await asyncio.wait([asking])
        await ended(rig_, 1)
        held.set()
        await until(lambda: len(node.pool) == 2)
        node.mine()
        assert await ended(rig_, 2) == {"ns1:0": SUCCEEDED, "ns1:1": CANCELLED}
        assert [parse(tx.raw).payload.data for tx in node.on_chain()] == [b"first", b""]


async def test_a_node_that_is_away_takes_no_new_work_and_keeps_the_old(tmp_path: Path) -> None:
    node = EvmNode()
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        await rig_.submit("ns1:0")
        await until(lambda: bool(node.pool))
        node.pool.clear()
        node.down = True
        await until(lambda: not rig_.engine.chain.available)
        with pytest.raises(Unavailable) as caught:
            await rig_.engine.submit(request("ns1:1"))
        assert caught.value.retry_after_s
        assert await rig_.journal.get(STREAM, "ns1:1") is None
        node.down = False
        await until(lambda: bool(node.pool), "the old one at the node again")


@pytest.mark.parametrize(
    ("message", "kind"),
    [("execution reverted: no", Reverted), ("insufficient funds", InsufficientFunds)],
)
async def test_what_the_estimate_refuses_is_not_journaled(
    tmp_path: Path, message: str, kind: type[Exception]
) -> None:
    node = EvmNode()
    node.refuse = refusing("eth_estimateGas", message)
    async with rig(node, tmp_path / "j") as rig_:
        await ready(rig_)
        with pytest.raises(kind):
            await rig_.submit("ns1:0")
        assert await rig_.journal.get(STREAM, "ns1:0") is None
        # The nonce is not lost.
        await rig_.submit("ns1:0")
        await until(lambda: {tx.nonce for tx in node.pool.values()} == {0})


async def test_too_much_at_once_is_refused(tmp_path: Path) -> None:
    async with rig(EvmNode(), tmp_path / "j") as rig_:
        await ready(rig_)
        object.__setattr__(rig_.engine.sender._settings, "in_flight_max", 2)
        await rig_.submit("ns1:0")
        await rig_.submit("ns1:1")
        with pytest.raises(Exhausted):
            await rig_.submit("ns1:2")


async def test_a_journal_of_another_chain_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", retention_s=1)
    await journal.open()
    try:
        found = await identify(EvmNode())
        assert found.chain_id == CHAIN_ID
        await check_chain(journal, found, None)
        await check_chain(journal, found, CHAIN_ID)
        for other, wanted in (
            (found, 1),
            (Identity(CHAIN_ID + 1, found.genesis), None),
            (Identity(CHAIN_ID, "0x1"), None),
        ):
            with pytest.raises(Refused) as caught:
                await check_chain(journal, other, wanted)
            assert caught.value.reason == "WRONG_CHAIN"
    finally:
        await journal.aclose()
