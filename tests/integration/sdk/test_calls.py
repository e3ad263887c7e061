"""Goal: mutating calls keep the rules of connector-protocol §3: deadline, key, epoch, errors, cancel.

Method: the ledger of tests/support over a real socket; the id of a batch chooses what it does.
"""

import asyncio

import grpc
import pytest
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import operation_pb2 as operations

from tests.support.ledger import CORE_STREAM, Ledger, pin_request
from tests.support.waiting import until
from tests.support.wire import Wire, reason_of

NOT_SENT, MAYBE_SENT = common.DISPOSITION_NOT_SENT, common.DISPOSITION_MAYBE_SENT
SUCCEEDED = common.OPERATION_STATE_SUCCEEDED
PENDING = common.OPERATION_STATE_PENDING
CANCELLED = common.OPERATION_STATE_CANCELLED


async def submit(wire: Wire, request: blockchain.SubmitBatchPinRequest) -> common.Submission:
    answer = await wire.call(wire.blockchain.SubmitBatchPin, request)
    submission: common.Submission = answer.submission
    return submission


async def refused(wire: Wire, request: blockchain.SubmitBatchPinRequest) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await submit(wire, request)
    return caught.value


async def operation(wire: Wire, key: str) -> operations.Operation:
    request = operations.GetOperationRequest(stream=CORE_STREAM.to_ref(), idempotency_key=key)
    answer = await wire.call(wire.operations.GetOperation, request)
    found: operations.Operation = answer.operation
    return found


async def cancelled(wire: Wire, key: str) -> common.OperationState.ValueType:
    context = common.MutationContext(
        idempotency_key=key, stream=CORE_STREAM.to_ref(), owner_epoch=1
    )
    answer = await wire.call(wire.operations.Cancel, operations.CancelRequest(context=context))
    state: common.OperationState.ValueType = answer.state
    return state


async def test_the_same_key_is_answered_again_without_a_second_effect(
    wire: Wire, ledger: Ledger
) -> None:
    first = await submit(wire, pin_request("k"))
    assert (first.replayed, first.state, first.external_id) == (False, SUCCEEDED, "0xb1")
    for _ in range(10):
        again = await submit(wire, pin_request("k"))
        assert (again.replayed, again.state, again.external_id) == (True, SUCCEEDED, "0xb1")
    assert len(ledger.calls) == 1


async def test_the_same_key_at_once_is_carried_out_once(wire: Wire, ledger: Ledger) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(submit(wire, pin_request("k"))) for _ in range(5)]
    assert sorted(task.result().replayed for task in tasks) == [False, True, True, True, True]
    assert len(ledger.calls) == 1


async def test_a_key_for_other_arguments_is_refused(wire: Wire, ledger: Ledger) -> None:
    await submit(wire, pin_request("k", "b1"))
    error = await refused(wire, pin_request("k", "b2"))
    assert error.code() == grpc.StatusCode.ALREADY_EXISTS
    assert reason_of(error) == ("KEY_REUSED", NOT_SENT)


async def test_another_leader_with_the_same_key_gets_the_same_answer(
    wire: Wire, ledger: Ledger
) -> None:
    await submit(wire, pin_request("k", epoch=1))
    assert (await submit(wire, pin_request("k", epoch=2))).replayed


async def test_an_old_epoch_is_refused_without_effect(wire: Wire, ledger: Ledger) -> None:
    await submit(wire, pin_request("k1", epoch=7))
    error = await refused(wire, pin_request("k2", epoch=6))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(error) == ("STALE_EPOCH", NOT_SENT)
    assert len(ledger.calls) == 1
    assert reason_of(await refused(wire, pin_request("k3", epoch=0)))[0] == "EPOCH_REQUIRED"


async def test_a_mutating_call_needs_deadline_key_and_stream(wire: Wire, ledger: Ledger) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.call(wire.blockchain.SubmitBatchPin, pin_request("k"), limit_s=None)
    assert reason_of(caught.value)[0] == "DEADLINE_REQUIRED"
    assert reason_of(await refused(wire, pin_request("")))[0] == "KEY_REQUIRED"
    assert reason_of(await refused(wire, pin_request("k" * 257)))[0] == "KEY_REQUIRED"
    no_stream = pin_request("k")
    no_stream.context.ClearField("stream")
    assert reason_of(await refused(wire, no_stream))[0] == "INVALID_STREAM"
    assert not ledger.calls


@pytest.mark.parametrize(
    ("batch_id", "code", "reason", "disposition"),
    [
        ("invalid", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUTS", NOT_SENT),
        ("revert", grpc.StatusCode.FAILED_PRECONDITION, "TRANSACTION_REVERTED", NOT_SENT),
        ("down", grpc.StatusCode.UNAVAILABLE, "DOWNSTREAM_DOWN", NOT_SENT),
        ("bug", grpc.StatusCode.INTERNAL, "INTERNAL", MAYBE_SENT),
    ],
)
async def test_errors_say_what_the_core_is_to_do(
    wire: Wire, ledger: Ledger, batch_id: str, code: grpc.StatusCode, reason: str, disposition: int
) -> None:
    error = await refused(wire, pin_request("k", batch_id))
    assert error.code() == code
    assert reason_of(error) == (reason, disposition)
    assert "secret detail" not in (error.details() or "")
    # What was certainly not sent frees the key; what may have been comes back as retried.
    await refused(wire, pin_request("k", batch_id))
    assert [call.retried for _, call in ledger.calls] == [False, disposition == MAYBE_SENT]


async def test_the_deadline_ends_the_authors_work(wire: Wire, ledger: Ledger) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.call(wire.blockchain.SubmitBatchPin, pin_request("k", "slow"), limit_s=1.0)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await operation(wire, "k")
    assert reason_of(caught.value)[0] == "UNKNOWN_KEY"
    (_, call) = ledger.calls[0]
    await until(lambda: call.remaining_s == 0)


async def test_an_operation_in_flight_is_waited_for(wire: Wire, ledger: Ledger) -> None:
    async with asyncio.TaskGroup() as group:
        submitting = group.create_task(submit(wire, pin_request("k", "held")))
        await until(lambda: ledger.calls)
        asking = group.create_task(operation(wire, "k"))
        await asyncio.sleep(0)
        ledger.release.set()
    assert submitting.result().external_id == "0xheld"
    assert asking.result().state == SUCCEEDED


async def test_operations_are_listed(wire: Wire, ledger: Ledger) -> None:
    for number in range(3):
        await submit(wire, pin_request(f"k{number}"))
    await submit(wire, pin_request("open", "open"))
    seen, token = [], ""
    while True:
        request = operations.ListOperationsRequest(
            stream=CORE_STREAM.to_ref(), page_size=2, page_token=token
        )
        page = await wire.call(wire.operations.ListOperations, request)
        seen += [o.idempotency_key for o in page.operations]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["k0", "k1", "k2", "open"]
    with pytest.raises(grpc.aio.AioRpcError):
        await wire.call(
            wire.operations.ListOperations,
            operations.ListOperationsRequest(stream=CORE_STREAM.to_ref(), page_token="x"),
        )


async def test_cancel_marks_unsent_keys_for_ever_and_leaves_ends_alone(
    wire: Wire, ledger: Ledger
) -> None:
    assert await cancelled(wire, "unknown") == CANCELLED
    late = await submit(wire, pin_request("unknown"))
    assert (late.replayed, late.state) == (True, CANCELLED)
    assert not ledger.calls

    await submit(wire, pin_request("open", "open"))
    assert await cancelled(wire, "open") == CANCELLED
    assert (await operation(wire, "open")).state == CANCELLED

    await submit(wire, pin_request("done"))
    assert await cancelled(wire, "done") == SUCCEEDED

    await refused(wire, pin_request("maybe", "bug"))
    assert await cancelled(wire, "maybe") == PENDING, "the author cannot say that it was not sent"


async def test_too_many_calls_at_once_are_refused(wire: Wire, ledger: Ledger) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(submit(wire, pin_request(f"k{number}", "held")))
        await until(lambda: len(ledger.calls) == 8)
        error = await refused(wire, pin_request("k9", "held"))
        ledger.release.set()
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(error) == ("TOO_MANY_IN_FLIGHT", NOT_SENT)


async def test_what_is_not_offered_says_so(wire: Wire, ledger: Ledger) -> None:
    request = blockchain.DeployContractRequest(context=pin_request("k").context)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.call(wire.blockchain.DeployContract, request)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert reason_of(caught.value)[0] == "NOT_OFFERED"
