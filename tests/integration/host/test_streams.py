"""Goal: what a connector tells is stored once and in order, whatever breaks on the way.

Method: the ledger of the author kit in the test's process and as a child that is killed; the handler
remembers events and checkpoints together, as a database would.
"""

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from photinus.connector.v1 import common_pb2, event_pb2
from photinus_core.host import Category, ConnectorHost, InstanceConfig, stream
from photinus_core.model.errors import Deposed
from photinus_core.model.ids import Epoch, Namespace
from photinus_core.ports.connectors import (
    CallKey,
    EventStream,
    MultipartyListener,
    NetworkActionSeen,
    WorkState,
    WorkUpdate,
)
from photinus_sdk import CheckpointLost, ConnectorServer, Events, Passed, Rejected

from tests.support.host import (
    CLUSTER_ID,
    PATIENT,
    StoringHandler,
    hosting,
    shown,
    stream_of,
    until_state,
)
from tests.support.ledger import Ledger, chain_event
from tests.support.waiting import until

NS = Namespace("ns1")
PIN_LOCATION = '{"address":"0x1"}'


def listener(name: str = "a") -> MultipartyListener:
    return MultipartyListener(name, PIN_LOCATION, 2, "oldest")


async def opened(
    host: ConnectorHost, handler: StoringHandler, *names: str, epoch: int = 1
) -> EventStream:
    return await host.blockchain("ledger0").open_stream(
        NS, "net1", Epoch(epoch), [listener(name) for name in names or ("a",)], handler
    )


def attached(run_dir: Path) -> InstanceConfig:
    return InstanceConfig("ledger0", Category.BLOCKCHAIN, address=f"unix:{run_dir}/x.sock")


def feed(ledger: Ledger, first: int, last: int, name: str = "a") -> None:
    queue = ledger.feeds.setdefault(name, asyncio.Queue())
    for number in range(first, last + 1):
        queue.put_nowait(Events([chain_event(name, number)], str(number).encode()))


async def test_events_arrive_in_order_and_are_acked_when_stored(run_dir: Path) -> None:
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir)) as host,
    ):
        await host.wait_ready("ledger0", 10)
        handler = StoringHandler()
        handler.gate.clear()
        await opened(host, handler)
        ledger = Ledger.live[-1]
        feed(ledger, 1, 50)
        await until(ledger.feeds["a"].empty)
        assert not ledger.acks, "nothing is acked before it is stored"
        handler.receipts = {"a/000000000050": "manifest"}
        handler.gate.set()
        await until(lambda: sum(len(acked.event_ids) for acked in ledger.acks) == 50)
        assert handler.numbers() == list(range(1, 51))
        assert handler.checkpoints == {"a": b"50"}
        assert ledger.acks[-1].receipts == {"a/000000000050": "manifest"}
        assert ledger.acks[-1].stream.cluster_id == CLUSTER_ID
        body = handler.batches[0].events[0].body
        assert isinstance(body, NetworkActionSeen)
        assert body.chain.block == 1
        assert "open" in stream_of(host, "ledger0")


async def test_what_collected_while_the_handler_was_busy_is_handed_over_together(
    run_dir: Path,
) -> None:
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir)) as host,
    ):
        await host.wait_ready("ledger0", 10)
        handler = StoringHandler()
        handler.gate.clear()
        await opened(host, handler)
        ledger = Ledger.live[-1]
        for number in range(1, 11):
            feed(ledger, number, number)
            await until(ledger.feeds["a"].empty)
        await until(lambda: host._streams[0][1]._session.rules.last_seq > 3)  # type: ignore[union-attr] # open by now
        handler.gate.set()
        await until(lambda: len(handler.ids) == 10)
        assert len(handler.batches) < 10
        assert handler.numbers() == list(range(1, 11))


async def test_a_batch_that_cannot_be_stored_comes_again(run_dir: Path) -> None:
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir)) as host,
    ):
        await host.wait_ready("ledger0", 10)
        handler = StoringHandler()
        handler.failures = [OSError("disk full"), OSError("disk full")]
        await opened(host, handler)
        feed(Ledger.live[-1], 1, 20)
        await until(lambda: len(handler.ids) == 20)
        assert handler.numbers() == list(range(1, 21))
        assert handler.resumed == 1, "the stream stayed open"


async def test_a_deposed_leader_stores_nothing_more(run_dir: Path) -> None:
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir)) as host,
    ):
        await host.wait_ready("ledger0", 10)
        handler = StoringHandler()
        handler.failures = [Deposed("FF19120", "namespace/ns1", 1)]
        await opened(host, handler)
        feed(Ledger.live[-1], 1, 5)
        await until(lambda: not host._streams)
        assert handler.ids == []


async def test_a_new_leader_takes_the_stream_and_the_old_one_ends(run_dir: Path) -> None:
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir)) as first,
        hosting(run_dir / "2", attached(run_dir)) as second,
    ):
        for host in (first, second):
            await host.wait_ready("ledger0", 10)
        old, new = StoringHandler(), StoringHandler()
        await opened(first, old, epoch=1)
        feed(Ledger.live[-1], 1, 3)
        await until(lambda: len(old.ids) == 3)
        new.checkpoints = dict(old.checkpoints)
        await opened(second, new, epoch=2)
        await until(lambda: not first._streams)
        assert "epoch 2" in old.troubles[0][1]
        assert not old.troubles[0][2], "no matter for an operator"
        feed(Ledger.live[-1], 4, 6)
        await until(lambda: len(new.ids) == 3)
        assert (old.numbers(), new.numbers()) == ([1, 2, 3], [4, 5, 6])
        late = StoringHandler()
        await opened(first, late, epoch=1)
        await until(lambda: late.troubles)
        assert "Epoch 1 is over" in late.troubles[0][1]


def stored_more_than(handler: StoringHandler, count: int) -> bool:
    return len(handler.ids) > count


async def test_killed_at_any_time_nothing_is_lost_or_stored_twice(run_dir: Path) -> None:
    command = (sys.executable, "-m", "tests.support.ledger")
    config = InstanceConfig(
        "ledger0", Category.BLOCKCHAIN, launch=command, config={"events": "3000"}
    )
    async with hosting(run_dir, config) as host:
        await host.wait_ready("ledger0", 10)
        handler = StoringHandler()
        await opened(host, handler)
        for _ in range(3):
            enough = len(handler.ids) + 100
            await until(partial(stored_more_than, handler, enough))
            child = host._supervisors["ledger0"]._link.child
            assert child is not None
            os.kill(child.pid, signal.SIGKILL)
            await until_state(host, "ledger0", "unreachable", "starting")
            await until_state(host, "ledger0", "ready")
        await until(lambda: len(handler.ids) >= 3000, 20)
        assert handler.numbers() == list(range(1, 3001))
        assert handler.checkpoints == {"a": b"3000"}


async def test_a_connector_that_stands_still_loses_the_stream_and_gets_it_again(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SILENCE_MAX_S", 1.5)
    command = (sys.executable, "-m", "tests.support.ledger")
    config = InstanceConfig(
        "ledger0",
        Category.BLOCKCHAIN,
        launch=command,
        limits=PATIENT,
        config={"events": "5"},
    )
    async with hosting(run_dir, config) as host:
        await host.wait_ready("ledger0", 10)
        handler = StoringHandler()
        await opened(host, handler)
        await until(lambda: len(handler.ids) == 5)
        child = host._supervisors["ledger0"]._link.child
        assert child is not None
        os.kill(child.pid, signal.SIGSTOP)
        await until(lambda: "nothing was heard" in stream_of(host, "ledger0"))
        os.kill(child.pid, signal.SIGCONT)
        await until(lambda: handler.resumed >= 2)
        await until(lambda: "open" in stream_of(host, "ledger0"))
        assert handler.numbers() == [1, 2, 3, 4, 5]


async def test_ends_of_work_arrive_on_the_stream(run_dir: Path) -> None:
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir)) as host,
    ):
        await host.wait_ready("ledger0", 10)
        handler = StoringHandler()
        await opened(host, handler)
        call = CallKey("ns1:op1", NS, Epoch(1))
        await host.blockchain("ledger0").submit_network_action(call, "0x1", "terminate", "", "{}")
        ledger = Ledger.live[-1]
        update = event_pb2.OperationUpdate(
            idempotency_key="ns1:op1",
            state=common_pb2.OPERATION_STATE_FAILED,
            error="reverted",
        )
        await ledger.instance.publish(ledger.instance.streams.copy().popitem()[0], update)
        await until(lambda: handler.ids)
        body = handler.batches[0].events[0].body
        assert isinstance(body, WorkUpdate)
        assert (body.key, body.state, body.error) == ("ns1:op1", WorkState.FAILED, "reverted")


async def test_listeners_come_and_go_and_stay_through_a_reconnect(run_dir: Path) -> None:
    address = f"unix:{run_dir}/x.sock"
    async with hosting(run_dir, attached(run_dir)) as host:
        handler = StoringHandler({"b": b"7"})
        async with ConnectorServer(Ledger, address, run_dir / "data"):
            await host.wait_ready("ledger0", 10)
            events = await opened(host, handler)
            ledger = Ledger.live[-1]
            await until(lambda: ledger.listening)
            await events.add_listener(listener("b"))
            await until(lambda: len(ledger.listening) == 2)
            assert ledger.listening[1].resume == b"7"
            await events.remove_listener("a")
            feed(ledger, 8, 8, "b")
            await until(lambda: handler.numbers("b") == [8])
        async with ConnectorServer(Ledger, address, run_dir / "data"):
            await until(lambda: Ledger.live and Ledger.live[-1].listening)
            assert [s.listener.id for s in Ledger.live[-1].listening] == ["b"]
            assert Ledger.live[-1].listening[0].resume == b"8"


async def test_troubles_of_listeners_reach_the_handler(run_dir: Path) -> None:
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir)) as host,
    ):
        await host.wait_ready("ledger0", 10)
        handler = StoringHandler()
        await opened(host, handler, "a", "b", "c")
        ledger = Ledger.live[-1]
        await until(lambda: len(ledger.feeds) == 3)
        ledger.feeds["b"].put_nowait(CheckpointLost("the block is no longer part of the chain"))
        ledger.feeds["c"].put_nowait(Rejected("the contract is gone"))
        await until(lambda: len(handler.troubles) == 2)
        assert sorted((name, fatal) for name, _, fatal in handler.troubles) == [
            ("b", True),
            ("c", False),
        ]
        feed(ledger, 1, 1)
        await until(lambda: handler.numbers() == [1])


async def test_progress_reaches_the_handler(run_dir: Path) -> None:
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir)) as host,
    ):
        await host.wait_ready("ledger0", 10)
        handler = StoringHandler()
        await opened(host, handler)
        ledger = Ledger.live[-1]
        await until(lambda: ledger.feeds)
        ledger.feeds["a"].put_nowait(Passed(b"9", final_block=9, catching_up=True))
        await until(lambda: handler.progressed)
        assert handler.checkpoints == {"a": b"9"}
        assert handler.progressed[0].final_blocks == {"a": 9}
        assert shown(host, "ledger0").streams[0].catching_up
        assert shown(host, "ledger0").streams[0].final_blocks == {"a": 9}


async def test_no_handler_runs_after_a_stream_was_closed(run_dir: Path) -> None:
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir)) as host,
    ):
        await host.wait_ready("ledger0", 10)
        handler = StoringHandler()
        events = await opened(host, handler)
        feed(Ledger.live[-1], 1, 5)
        await until(lambda: len(handler.ids) == 5)
        await events.aclose()
        feed(Ledger.live[-1], 6, 9)
        await until(lambda: not Ledger.live[-1].instance.streams)
        assert handler.numbers() == [1, 2, 3, 4, 5]
        assert shown(host, "ledger0").streams == ()
