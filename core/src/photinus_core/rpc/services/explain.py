"""ExplainService: what an undecided message or pin waits for."""

from __future__ import annotations

from photinus.api.v1 import explain_pb2, explain_service_pb2_grpc
from photinus.api.v1 import explain_service_pb2 as pb

from photinus_core.events.explain import PinExplanation
from photinus_core.model.ids import parse_uuid
from photinus_core.namespaces.node import Node
from photinus_core.rpc import convert
from photinus_core.rpc.errors import Context
from photinus_core.rpc.leader_calls import LeaderCalls, leader_knows
from photinus_core.rpc.services.base import Servicer

_SERVICE = pb.DESCRIPTOR.services_by_name["ExplainService"]


class ExplainServicer(Servicer, explain_service_pb2_grpc.ExplainServiceServicer):
    """Serves explanations."""

    def __init__(self, node: Node, leader_calls: LeaderCalls) -> None:
        super().__init__(node)
        self.leader_calls = leader_calls

    @leader_knows(_SERVICE)
    async def ExplainMessage(
        self, request: pb.ExplainMessageRequest, context: Context
    ) -> pb.ExplainMessageResponse:
        explainer = self.namespace(request).explainer()
        found = await explainer.explain_message(parse_uuid(request.id))
        return pb.ExplainMessageResponse(
            id=found.id,
            state=found.state,
            batch=found.batch or "",
            reason=found.reason,
            detail=found.detail,
            since=convert.timestamp(found.since),
            pins=[shown(p) for p in found.pins],
            operations=found.operations,
        )

    @leader_knows(_SERVICE)
    async def ExplainPin(
        self, request: pb.ExplainPinRequest, context: Context
    ) -> pb.ExplainPinResponse:
        found = await self.namespace(request).explainer().explain_pin(request.sequence)
        return pb.ExplainPinResponse(pin=shown(found))


def shown(explained: PinExplanation) -> explain_pb2.PinExplanation:
    """An explained pin."""
    pin = explained.pin
    made = explain_pb2.PinExplanation(
        sequence=pin.sequence,
        hash=pin.hash,
        batch=pin.batch,
        index=pin.index,
        protocol_id=pin.protocol_id,
        message=explained.message or "",
        state=explained.state,
        reason=explained.reason,
        detail=explained.detail,
        since=convert.timestamp(explained.since),
    )
    if explained.behind is not None:
        made.behind = explained.behind
    return made
