"""Errors of the connector in memory, put on the wire by hand as an author without a kit would."""

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from photinus.connector.v1 import common_pb2 as common

DOMAIN = "photinus.connector.v1"
MESSAGE_CHARACTERS_MAX = 400


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def status(self, faults: frozenset[str]) -> status_pb2.Status:
        info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=self.reason)
        detail = common.SubmissionDetail(disposition=common.DISPOSITION_NOT_SENT)
        if "no-disposition" in faults:
            detail.disposition = common.DISPOSITION_MAYBE_SENT
        message = self.message
        if "long-errors" not in faults:
            message = message[:MESSAGE_CHARACTERS_MAX]
        details: list[Message] = [detail] if "no-error-info" in faults else [info, detail]
        number: int = self.code.value[0]
        return status_pb2.Status(code=number, message=message, details=map(_packed, details))


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def invalid(reason: str, message: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, reason, message)


def not_found(reason: str, message: str) -> Refused:
    return Refused(grpc.StatusCode.NOT_FOUND, reason, message)


def precondition(reason: str, message: str) -> Refused:
    return Refused(grpc.StatusCode.FAILED_PRECONDITION, reason, message)


def stale(highest: int) -> Refused:
    return precondition("STALE_EPOCH", f"epoch {highest} was seen")
