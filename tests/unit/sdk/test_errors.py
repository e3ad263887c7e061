"""Goal: errors reach the core with code, reason and disposition, and never grow past gRPC's limits.

Method: build each class, read the status back as the core does; hostile texts for the sizes.
"""

import base64
from urllib.parse import quote

import grpc
import photinus_sdk
import pytest
from google.rpc import error_details_pb2
from photinus.connector.v1 import common_pb2 as common
from photinus_journal import cut
from photinus_sdk.errors import ConnectorError

TRAILERS_BYTES_SOFT = 8192


def details(error: ConnectorError) -> tuple[error_details_pb2.ErrorInfo, common.SubmissionDetail]:
    info, detail = error_details_pb2.ErrorInfo(), common.SubmissionDetail()
    status = error.to_status()
    assert status.details[0].Unpack(info)
    assert status.details[-1].Unpack(detail)
    return info, detail


@pytest.mark.parametrize(
    ("name", "code", "reason", "disposition"),
    [
        ("ConnectorError", "INTERNAL", "INTERNAL", common.DISPOSITION_MAYBE_SENT),
        ("Rejected", "INVALID_ARGUMENT", "INVALID_INPUTS", common.DISPOSITION_NOT_SENT),
        ("Reverted", "FAILED_PRECONDITION", "TRANSACTION_REVERTED", common.DISPOSITION_NOT_SENT),
        (
            "InsufficientFunds",
            "FAILED_PRECONDITION",
            "INSUFFICIENT_FUNDS",
            common.DISPOSITION_NOT_SENT,
        ),
        ("Unavailable", "UNAVAILABLE", "DOWNSTREAM_DOWN", common.DISPOSITION_NOT_SENT),
        ("TimedOut", "DEADLINE_EXCEEDED", "TIMEOUT", common.DISPOSITION_MAYBE_SENT),
        ("NotFound", "NOT_FOUND", "NOT_FOUND", common.DISPOSITION_NOT_SENT),
        ("Conflict", "ALREADY_EXISTS", "CONFLICT", common.DISPOSITION_NOT_SENT),
        ("Corrupted", "DATA_LOSS", "HASH_MISMATCH", common.DISPOSITION_MAYBE_SENT),
        ("NotOffered", "UNIMPLEMENTED", "NOT_OFFERED", common.DISPOSITION_NOT_SENT),
    ],
)
def test_each_class_says_what_the_core_needs(
    name: str, code: str, reason: str, disposition: common.Disposition.ValueType
) -> None:
    error = getattr(photinus_sdk, name)("what happened")
    info, detail = details(error)
    assert error.to_status().code == getattr(grpc.StatusCode, code).value[0]
    assert (info.reason, info.domain) == (reason, "photinus.connector.v1")
    assert detail.disposition == disposition


def test_retry_and_metadata_travel() -> None:
    error = photinus_sdk.Unavailable("away", retry_after_s=2.5, node="n1")
    retry = error_details_pb2.RetryInfo()
    assert error.to_status().details[1].Unpack(retry)
    assert retry.retry_delay.ToTimedelta().total_seconds() == 2.5
    assert dict(details(error)[0].metadata) == {"node": "n1"}


@pytest.mark.parametrize("text", ["a" * 100_000, "é" * 100_000, "𝔘" * 100_000, "\udc80" * 5000])
def test_a_hostile_text_stays_below_the_limit_of_trailers(text: str) -> None:
    error = ConnectorError(text, retry_after_s=1)
    error.metadata = {f"name{n}": text for n in range(20)}
    status = error.to_status()
    raw = status.SerializeToString()
    assert len(status.message.encode()) <= 2048
    assert len(raw) <= 4096
    on_the_wire = len(quote(error.headline)) + len(base64.b64encode(raw))
    assert on_the_wire < TRAILERS_BYTES_SOFT


def test_cut_keeps_whole_characters() -> None:
    assert cut("short", 10) == "short"
    assert cut("éééééé", 10) == "ééé…"
