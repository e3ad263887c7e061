"""ExplainService: what an undecided message or pin waits for."""

from __future__ import annotations

from photinus.api.v1 import explain_pb2, explain_service_pb2_grpc
from photinus.api.v1 import explain_service_pb2 as pb

from photinus_core.model.ids import parse_uuid
from photinus_core.namespaces.explain import ExplainedPin, explain_message, explain_pin
from photinus_core.rpc import convert
from photinus_core.rpc.errors import Context
from photinus_core.rpc.services.base import Servicer


class ExplainServicer(Servicer, explain_service_pb2_grpc.ExplainServiceServicer):
    """Serves explanations."""

    async def ExplainMessage(
        self, request: pb.ExplainMessageRequest, context: Context
    ) -> pb.ExplainMessageResponse:
        found = await explain_message(self.namespace(request), parse_uuid(request.id))
        return pb.ExplainMessageResponse(
            id=found.id,
            state=found.state,
            batch=found.batch or "",
            reason=found.waiting.reason,
            detail=found.waiting.detail,
            since=convert.timestamp(found.waiting.since),
            pins=[shown(p) for p in found.pins],
            operations=found.operations,
        )

    async def ExplainPin(
        self, request: pb.ExplainPinRequest, context: Context
    ) -> pb.ExplainPinResponse:
        found = await explain_pin(self.namespace(request), request.sequence)
        return pb.ExplainPinResponse(pin=shown(found))


def shown(explained: ExplainedPin) -> explain_pb2.PinExplanation:
    """An explained pin."""
    pin, waiting = explained.pin, explained.waiting
    made = explain_pb2.PinExplanation(
        sequence=pin.sequence,
        hash=pin.hash,
        batch=pin.batch,
        index=pin.index,
        protocol_id=pin.protocol_id,
        message=explained.message or "",
        state=explained.state,
        reason=waiting.reason,
        detail=waiting.detail,
        since=convert.timestamp(waiting.since),
    )
    if waiting.behind is not None:
        made.behind = waiting.behind
    return made
