"""Goal: a connector that lies on the stream or in its answers costs its own calls and stream, no more,
and the operator reads one clear line about it.

Method: `tests.support.liar`, written on the raw protos, breaks one rule at a time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import blockchain_pb2_grpc
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations
from photinus_core.host import Category, ConnectorHost, InstanceConfig, calls, stream
from photinus_core.host.stream_session import Session
from photinus_core.ports.connectors import (
    ConnectorFailure,
    Disposition,
    MultipartyListener,
    Submission,
    WorkState,
)
from photinus_sdk import ConnectorError, Refused, Unavailable

from tests.support.host import (
    StoringHandler,
    follow,
    hosting,
    shown,
    stream_of,
    submit_pin,
    until_state,
)
from tests.support.liar import Liar, LiarStream, Script, accepted
from tests.support.waiting import until


@pytest.fixture
async def host(run_dir: Path, quick: None, liar: Liar) -> AsyncIterator[ConnectorHost]:
    async with liar.served(run_dir) as address:
        config = InstanceConfig("liar0", Category.BLOCKCHAIN, address=address)
        async with hosting(run_dir, config) as made:
            yield made


async def opened(host: ConnectorHost) -> StoringHandler:
    await host.wait_ready("liar0", 10)
    handler = StoringHandler()
    await follow(host, "liar0", handler)
    return handler


async def gap(s: LiarStream) -> None:
    await s.opened()
    await s.batch(1, 1)
    await s.batch(3, 3)


async def repeated(s: LiarStream) -> None:
    await s.opened()
    await s.batch(1, 1)
    await s.batch(1, 1)


async def early(s: LiarStream) -> None:
    await s.batch(1, 1)


async def twice_opened(s: LiarStream) -> None:
    await s.opened()
    await s.opened()


async def wide(s: LiarStream) -> None:
    asked = s.opening
    await s.send(
        opened=events.Opened(
            window_batches=asked.window_batches + 1,
            window_bytes=asked.window_bytes,
            batch_size=asked.batch_size,
        )
    )


async def flooding(s: LiarStream) -> None:
    await s.opened()
    for seq in range(1, s.opening.window_batches + 2):
        await s.batch(seq, seq)


async def heavy(s: LiarStream) -> None:
    await s.opened()
    for seq in range(1, 10):
        await s.batch(seq, seq, payload="x" * 3_000_000)


async def crowded(s: LiarStream) -> None:
    await s.opened()
    await s.batch(1, *range(1, s.opening.batch_size + 2))


async def stranger(s: LiarStream) -> None:
    await s.opened()
    await s.batch(1, 1, listener="nobody")


async def empty_frame(s: LiarStream) -> None:
    await s.opened()
    await s.send()


async def odd_progress(s: LiarStream) -> None:
    await s.opened()
    await s.send(progress=events.Progress(checkpoints={"nobody": b"1"}))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (gap, "EVT-002: batch 3 after batch 1"),
        (repeated, "EVT-002: batch 1 after batch 1"),
        (early, "EVT-001: batch before Opened"),
        (twice_opened, "EVT-001: a second Opened"),
        (wide, "EVT-005: Opened with a window"),
        (flooding, "EVT-005: "),
        (heavy, "EVT-005: "),
        (crowded, "events, "),
        (stranger, "no listener 'nobody'"),
        (empty_frame, "says nothing"),
        (odd_progress, "no listener 'nobody'"),
    ],
)
async def test_a_broken_rule_costs_the_stream_and_is_named_once(
    liar: Liar,
    host: ConnectorHost,
    caplog: pytest.LogCaptureFixture,
    script: Script,
    words: str,
) -> None:
    async def then_wait(s: LiarStream) -> None:
        await script(s)
        await asyncio.Event().wait()

    liar.script = then_wait
    handler = await opened(host)
    handler.gate.clear()  # A slow handler: the window is what protects it.
    await until(lambda: len(liar.opens) >= 3)
    handler.gate.set()
    assert words in stream_of(host, "liar0")
    lines = [r.getMessage() for r in caplog.records if "breaks the protocol" in r.getMessage()]
    assert len(lines) == 1, "told once, not at every attempt"
    assert words in lines[0]
    assert shown(host, "liar0").state == "ready", "calls go on"
    result = await submit_pin(host, "liar0")
    assert result.state is WorkState.PENDING


async def test_after_the_lie_the_truth_is_taken(liar: Liar, host: ConnectorHost) -> None:
    liar.script = gap
    handler = await opened(host)
    await until(lambda: handler.ids and len(liar.opens) >= 2)

    async def honest(s: LiarStream) -> None:
        await s.opened()
        done = int(s.opening.listeners[0].resume or b"0")
        await s.batch(1, *range(done + 1, done + 3))
        await asyncio.Event().wait()

    liar.script = honest
    await until(lambda: len(handler.ids) >= 3)
    await until(lambda: stream_of(host, "liar0").startswith("open"))
    assert handler.numbers()[-2:] == [2, 3], "behind what was stored of the lie"


async def test_a_nack_that_is_ignored_ends_the_stream(
    liar: Liar, host: ConnectorHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "RESEND_MAX_S", 0.5)
    nacks: list[events.Nack] = []

    async def deaf(s: LiarStream) -> None:
        await s.opened()
        await s.batch(1, 1)
        nacks.append((await s.wait_heard("nack")).nack)
        await asyncio.Event().wait()

    liar.script = deaf
    handler = await opened(host)
    handler.failures = [OSError("disk full")] * 50
    await until(lambda: len(liar.opens) >= 2)
    assert nacks[0].seq == 1
    assert nacks[0].retry_after_ms > 0
    assert "disk full" in nacks[0].status.message


async def test_a_stream_without_opened_is_given_up(
    liar: Liar, host: ConnectorHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "OPEN_WAIT_S", 0.2)

    async def silent(_: LiarStream) -> None:
        await asyncio.Event().wait()

    liar.script = silent
    await opened(host)
    await until(lambda: len(liar.opens) >= 2)


async def test_listeners_that_come_and_go_before_opened_are_told_after_it(
    liar: Liar, host: ConnectorHost
) -> None:
    """They were lost: Open was under way already, and the stream did not count as open yet."""
    answer = asyncio.Event()

    async def slow(s: LiarStream) -> None:
        await answer.wait()
        await s.opened()
        await s.wait_heard("remove_listener")
        heard.extend(str(frame.WhichOneof("frame")) for frame in s.heard)
        await asyncio.Event().wait()

    heard: list[str] = []
    liar.script = slow
    await host.wait_ready("liar0", 10)
    handler = StoringHandler()
    client = await follow(host, "liar0", handler)
    await until(lambda: liar.opens)
    await client.add_listener(MultipartyListener("b", "{}", 2, "oldest"))
    await client.remove_listener("a")
    answer.set()
    await until(lambda: heard)
    assert heard == ["add_listener", "remove_listener"]
    assert len(liar.opens) == 1


async def test_an_event_of_an_unknown_kind_is_skipped(liar: Liar, host: ConnectorHost) -> None:
    async def newer(s: LiarStream) -> None:
        await s.opened()
        await s.send(batch=events.Batch(seq=1, events=[events.Event(id="x", listener_id="a")]))
        await s.batch(2, 2)
        await s.wait_heard("ack")
        await asyncio.Event().wait()

    liar.script = newer
    handler = await opened(host)
    await until(lambda: handler.numbers() == [2])
    assert "x" not in handler.ids


@pytest.mark.parametrize("hops", range(6))
async def test_a_stream_can_be_closed_while_its_session_ends(
    liar: Liar, host: ConnectorHost, monkeypatch: pytest.MonkeyPatch, hops: int
) -> None:
    """A cancellation that comes while a session ends is dropped by TaskGroup before Python 3.13."""
    read = stream.StreamClient._read
    closed = asyncio.Event()

    async def close_soon(client: stream.StreamClient) -> None:
        for _ in range(hops):
            await asyncio.sleep(0)
        await client.aclose()
        closed.set()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:

        async def read_and_close(client: stream.StreamClient, session: Session) -> None:
            try:
                await read(client, session)
            finally:
                group.create_task(close_soon(client))

        async def ended(s: LiarStream) -> None:
            await s.opened()

        monkeypatch.setattr(stream.StreamClient, "_read", read_and_close)
        liar.script = ended
        await opened(host)
        await closed.wait()


async def test_a_lost_call_is_no_cancellation_of_its_caller(
    liar: Liar, host: ConnectorHost
) -> None:
    """The count of cancellations that such a group leaves behind does not hide the loss."""
    await host.wait_ready("liar0", 10)
    liar.submit = hang
    connection = host._supervisors["liar0"].connection()

    async def fail() -> None:
        raise ValueError

    async def caller() -> ConnectorFailure | None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        except* ValueError:
            pass
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        assert task.cancelling()
        stub = connection.stub(blockchain_pb2_grpc.BlockchainServiceStub)
        request = blockchain.SubmitBatchPinRequest()
        with pytest.raises(ConnectorFailure) as caught:
            await connection.unary(stub.SubmitBatchPin, request, 10)
        return caught.value

    async with asyncio.TaskGroup() as group:
        calling = group.create_task(caller())
        await until(lambda: liar.submitted)
        await connection.aclose("it went away")
        found = await calling
    assert found is not None
    assert found.reason == "CONNECTOR_LOST"


async def test_a_drained_stream_is_opened_again(liar: Liar, host: ConnectorHost) -> None:
    async def drained(s: LiarStream) -> None:
        await s.opened()
        await s.send(drained=events.Drained())

    liar.script = drained
    await opened(host)
    await until(lambda: len(liar.opens) >= 3)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"protocols": ["v9"]}, "FF19211"),
        ({"config_schema_json": "nonsense"}, "FF19202"),
        ({"contracts": []}, "FF19208"),
    ],
)
async def test_a_description_that_cannot_be_used_is_refused(
    run_dir: Path, quick: None, liar: Liar, change: dict[str, object], code: str
) -> None:
    for name in change:
        liar.described.ClearField(name)  # type: ignore[arg-type] # names of its fields
    liar.described.MergeFrom(connector.DescribeResponse(**change))  # type: ignore[arg-type] # as above
    async with liar.served(run_dir) as address:
        config = InstanceConfig("liar0", Category.BLOCKCHAIN, address=address)
        async with hosting(run_dir, config) as host:
            info = await until_state(host, "liar0", "failed")
            assert code in info.last_error


async def test_configure_cannot_offer_more_than_describe(
    run_dir: Path, quick: None, liar: Liar
) -> None:
    liar.configured.contracts[0].capabilities.append(connector.CAPABILITY_DEPLOY)
    async with liar.served(run_dir) as address:
        config = InstanceConfig("liar0", Category.BLOCKCHAIN, address=address)
        async with hosting(run_dir, config) as host:
            info = await until_state(host, "liar0", "failed")
            assert "more than Describe" in info.last_error


async def submit(host: ConnectorHost) -> Submission:
    await host.wait_ready("liar0", 10)
    return await submit_pin(host, "liar0")


async def hang() -> blockchain.SubmitBatchPinResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def fail_inside() -> blockchain.SubmitBatchPinResponse:
    raise ConnectorError("a bug")


async def done_operation() -> operations.GetOperationResponse:
    operation = operations.Operation(
        idempotency_key="ns1:op", state=common.OPERATION_STATE_SUCCEEDED, external_id="0x7"
    )
    return operations.GetOperationResponse(operation=operation)


@pytest.mark.parametrize("answer", [hang, fail_inside])
async def test_an_unknown_outcome_is_asked_for_not_sent_again(
    liar: Liar, host: ConnectorHost, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    monkeypatch.setattr(calls, "SUBMIT_S", 0.3)
    liar.submit, liar.operation = answer, done_operation  # type: ignore[assignment] # one of the two above
    result = await submit(host)
    assert (result.replayed, result.state, result.external_id) == (True, WorkState.SUCCEEDED, "0x7")
    assert liar.submitted == ["ns1:op"]
    assert liar.asked == ["ns1:op"]


async def test_what_never_arrived_is_sent_again_with_the_same_key(
    liar: Liar, host: ConnectorHost
) -> None:
    answers = [fail_inside, accepted]

    async def next_answer() -> blockchain.SubmitBatchPinResponse:
        return await answers.pop(0)()

    liar.submit = next_answer
    result = await submit(host)
    assert result.external_id == "0x1"
    assert liar.submitted == ["ns1:op", "ns1:op"]
    assert liar.asked == ["ns1:op"]


async def test_sending_again_has_an_end(liar: Liar, host: ConnectorHost) -> None:
    liar.submit = fail_inside
    with pytest.raises(ConnectorFailure) as caught:
        await submit(host)
    assert caught.value.disposition is Disposition.MAYBE_SENT
    assert len(liar.submitted) == calls.SENDS_MAX


@pytest.mark.parametrize(
    "error", [Refused("reverted", reason="TRANSACTION_REVERTED"), Unavailable("node away")]
)
async def test_an_answer_that_nothing_was_sent_is_given_as_it_is(
    liar: Liar, host: ConnectorHost, error: ConnectorError
) -> None:
    async def answer() -> blockchain.SubmitBatchPinResponse:
        raise error

    liar.submit = answer
    with pytest.raises(ConnectorFailure) as caught:
        await submit(host)
    assert caught.value.reason == error.reason
    assert caught.value.disposition is Disposition.NOT_SENT
    assert liar.submitted == ["ns1:op"]
    assert liar.asked == []
    assert shown(host, "liar0").state == "ready", "an answer is no reason to redial"


async def test_when_nothing_can_be_learned_the_caller_is_told_so(
    liar: Liar, host: ConnectorHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "SUBMIT_S", 0.2)
    monkeypatch.setattr(calls, "RECONCILE_S", 0.2)
    monkeypatch.setattr(calls, "SUBMIT_WITH_WAITING_S", 1.0)

    async def silent() -> operations.GetOperationResponse:
        await asyncio.Event().wait()
        raise AssertionError

    liar.submit, liar.operation = hang, silent
    with pytest.raises(ConnectorFailure) as caught:
        await submit(host)
    assert caught.value.disposition is Disposition.MAYBE_SENT
    assert liar.submitted == ["ns1:op"]


async def test_submissions_wait_for_a_connector_that_is_away(
    run_dir: Path, quick: None, liar: Liar
) -> None:
    address = f"unix:{run_dir}/liar.sock"
    config = InstanceConfig("liar0", Category.BLOCKCHAIN, address=address)
    async with hosting(run_dir, config) as host, asyncio.TaskGroup() as group:
        waiting = group.create_task(submit_pin(host, "liar0"))
        await until(lambda: shown(host, "liar0").last_error)
        assert not waiting.done()
        async with liar.served(run_dir):
            async with asyncio.timeout(10):
                assert (await waiting).external_id == "0x1"


async def test_calls_wait_for_room_that_the_connector_set(
    run_dir: Path, quick: None, liar: Liar
) -> None:
    for contracts in (liar.described.contracts, liar.configured.contracts):
        contracts[0].limits.max_in_flight = 2
    let_go = asyncio.Event()

    async def held() -> blockchain.SubmitBatchPinResponse:
        await let_go.wait()
        return await accepted()

    liar.submit = held
    async with liar.served(run_dir) as address:
        config = InstanceConfig("liar0", Category.BLOCKCHAIN, address=address)
        async with hosting(run_dir, config) as host, asyncio.TaskGroup() as group:
            await host.wait_ready("liar0", 10)
            for number in range(5):
                group.create_task(submit_pin(host, "liar0", f"ns1:{number}"))
            await until(lambda: len(liar.submitted) == 2)
            let_go.set()
    assert liar.submitted == [f"ns1:{number}" for number in range(5)], "in the order of the calls"
