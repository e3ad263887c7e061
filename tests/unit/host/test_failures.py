"""Goal: what a connector answers becomes what the core decides by; nobody's answer is told apart.

Method: errors as gRPC gives them, with the details of the author kit and with nonsense.
"""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata
from photinus_core.host.failures import ConnectionLostError, lost, translated
from photinus_core.model.errors import PhotinusError
from photinus_core.ports.connectors import Disposition
from photinus_sdk import ConnectorError, Refused, Rejected, TimedOut, Unavailable


def answered(error: ConnectorError) -> AioRpcError:
    details = ("grpc-status-details-bin", error.to_status().SerializeToString())
    return AioRpcError(error.code, Metadata(), Metadata(details), error.headline)


def bare(code: grpc.StatusCode, text: str = "text", details: bytes = b"") -> AioRpcError:
    trailers = Metadata(("grpc-status-details-bin", details)) if details else Metadata()
    return AioRpcError(code, Metadata(), trailers, text)


@pytest.mark.parametrize(
    ("error", "reason", "disposition", "retry_after_s"),
    [
        (Rejected("no"), "INVALID_INPUTS", Disposition.NOT_SENT, None),
        (Refused("no", reason="STALE_EPOCH"), "STALE_EPOCH", Disposition.NOT_SENT, None),
        (TimedOut("late"), "TIMEOUT", Disposition.MAYBE_SENT, None),
        (Unavailable("away", retry_after_s=2.5), "DOWNSTREAM_DOWN", Disposition.NOT_SENT, 2.5),
        (ConnectorError("bug"), "INTERNAL", Disposition.MAYBE_SENT, None),
    ],
)
def test_an_answer_is_understood(
    error: ConnectorError, reason: str, disposition: Disposition, retry_after_s: float | None
) -> None:
    failure = translated(answered(error), "ledger")
    assert (failure.reason, failure.disposition) == (reason, disposition)
    assert failure.retry_after_s == retry_after_s
    assert str(failure) == error.message
    assert failure.details["connector"] == "ledger"


def test_metadata_is_kept() -> None:
    failure = translated(answered(Refused("no", revert="0x12")), "ledger")
    assert failure.details["revert"] == "0x12"


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_what_nobody_answered_is_a_lost_connection(code: grpc.StatusCode) -> None:
    with pytest.raises(ConnectionLostError, match="text"):
        translated(bare(code), "ledger")


@pytest.mark.parametrize(
    ("error", "reason", "disposition"),
    [
        (bare(grpc.StatusCode.DEADLINE_EXCEEDED), "TIMEOUT", Disposition.MAYBE_SENT),
        (bare(grpc.StatusCode.UNIMPLEMENTED), "UNIMPLEMENTED", Disposition.NOT_SENT),
        (bare(grpc.StatusCode.INTERNAL, ""), "INTERNAL", Disposition.MAYBE_SENT),
        (
            bare(grpc.StatusCode.INTERNAL, details=b"\xff\xff"),
            "INTERNAL",
            Disposition.MAYBE_SENT,
        ),
    ],
)
def test_bare_and_nonsensical_errors_are_taken_for_the_worst(
    error: AioRpcError, reason: str, disposition: Disposition
) -> None:
    failure = translated(error, "ledger")
    assert (failure.reason, failure.disposition) == (reason, disposition)
    assert str(failure)


def test_one_error_for_calls_in_flight() -> None:
    failure = lost("ledger", "the process was ended by SIGKILL")
    assert not isinstance(failure, PhotinusError)
    assert failure.reason == "CONNECTOR_LOST"
    assert failure.disposition is Disposition.MAYBE_SENT
    assert "SIGKILL" in str(failure)


def test_an_error_is_cut_and_cleaned() -> None:
    metadata: dict[str, Any] = {f"k{n}": "v" * 1000 for n in range(100)}
    failure = translated(
        answered(Refused("x" * 9000, **metadata)), "ledger", lambda text: text.replace("v", "*")
    )
    assert len(str(failure)) <= 2048
    assert failure.details["connector"] == "ledger"
    assert failure.details["code"] == "FAILED_PRECONDITION"
    assert sum(map(len, failure.details.values())) < 17_000
    assert not any("v" in value for key, value in failure.details.items() if key.startswith("k"))


@pytest.mark.parametrize(("seconds", "after_s"), [(-5, 0.0), (1 << 60, 3600.0), (3, 3.0)])
def test_a_wait_that_makes_no_sense_is_bounded(seconds: int, after_s: float) -> None:
    retry, status = error_details_pb2.RetryInfo(), status_pb2.Status(code=14)
    retry.retry_delay.seconds = seconds
    status.details.add().Pack(retry)
    error = bare(grpc.StatusCode.UNAVAILABLE, details=status.SerializeToString())
    assert translated(error, "ledger").retry_after_s == after_s
