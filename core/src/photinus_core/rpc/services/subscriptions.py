"""SubscriptionService: durable subscriptions."""

from __future__ import annotations

import msgspec
from photinus.api.v1 import subscription_pb2, subscription_service_pb2_grpc
from photinus.api.v1 import subscription_service_pb2 as pb

from photinus_core.access.refusals import forbidden
from photinus_core.events.history import Stretch, parse_sequence
from photinus_core.events.subscriptions import SubscriptionInput
from photinus_core.model.ids import parse_uuid
from photinus_core.model.query import FilterBuilder
from photinus_core.ports.store import Table
from photinus_core.rpc import convert, fireflyjson
from photinus_core.rpc.access import current
from photinus_core.rpc.errors import Context, set_http_status
from photinus_core.rpc.queries import read_query
from photinus_core.rpc.services.base import Servicer, total_of
from photinus_core.rpc.subscribing import enriched


def subscription_input(given: subscription_pb2.Subscription) -> SubscriptionInput:
    """Reads a subscription as a client wrote it.

    Raises:
        Forbidden: FF00170, a webhook's answers would be sent as this member's organisation, and the
            caller sends as another identity only.
    """
    binding = current().binding
    if binding is not None and _replies(given.options):
        raise forbidden(f"replies are not sent as {binding.author}")
    return SubscriptionInput(
        name=given.name,
        transport=given.transport,
        filter_json=fireflyjson.encode(given.filter),
        options_json=fireflyjson.encode(given.options),
    )


def _replies(options: subscription_pb2.SubscriptionOptions) -> bool:
    try:
        others = msgspec.json.decode(options.other or "{}")
    except msgspec.DecodeError:
        return False  # refused where it is read
    return isinstance(others, dict) and bool(others.get("reply"))


class SubscriptionServicer(Servicer, subscription_service_pb2_grpc.SubscriptionServiceServicer):
    """Serves durable subscriptions."""

    async def ListSubscriptions(
        self, request: pb.ListSubscriptionsRequest, context: Context
    ) -> pb.ListSubscriptionsResponse:
        page = await self.page(request, request.query, Table.SUBSCRIPTIONS)
        items = [convert.subscription(s) for s in page.items]
        return pb.ListSubscriptionsResponse(items=items, **total_of(page))

    async def GetSubscription(
        self, request: pb.GetSubscriptionRequest, context: Context
    ) -> pb.GetSubscriptionResponse:
        service = self.namespace(request).subscriptions
        found = await service.get(parse_uuid(request.id))
        shown = convert.subscription(found)
        if request.fetch_status:
            offset = await service.offset(found.id)
            shown.status.SetInParent()
            if offset is not None:
                shown.status.current_offset = offset
        return pb.GetSubscriptionResponse(subscription=shown)

    async def CreateSubscription(
        self, request: pb.CreateSubscriptionRequest, context: Context
    ) -> pb.CreateSubscriptionResponse:
        service = self.namespace(request).subscriptions
        made = await service.create(subscription_input(request.subscription))
        set_http_status(context, 201)
        return pb.CreateSubscriptionResponse(subscription=convert.subscription(made))

    async def PutSubscription(
        self, request: pb.PutSubscriptionRequest, context: Context
    ) -> pb.PutSubscriptionResponse:
        service = self.namespace(request).subscriptions
        made = await service.put(subscription_input(request.subscription))
        return pb.PutSubscriptionResponse(subscription=convert.subscription(made))

    async def DeleteSubscription(
        self, request: pb.DeleteSubscriptionRequest, context: Context
    ) -> pb.DeleteSubscriptionResponse:
        await self.namespace(request).subscriptions.delete(parse_uuid(request.id))
        set_http_status(context, 204)
        return pb.DeleteSubscriptionResponse()

    async def ListSubscriptionEvents(
        self, request: pb.ListSubscriptionEventsRequest, context: Context
    ) -> pb.ListSubscriptionEventsResponse:
        namespace = self.namespace(request)
        asked = read_query(Table.EVENTS, request.query, namespace.settings.queries)
        stretch = Stretch(
            parse_sequence("startsequence", request.start_sequence),
            parse_sequence("endsequence", request.end_sequence),
        )
        page = await namespace.history.replay(parse_uuid(request.id), asked, stretch)
        items = [enriched(event) for event in page.items]
        return pb.ListSubscriptionEventsResponse(items=items, **total_of(page))

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: Context
    ) -> pb.ListDeadLettersResponse:
        one = FilterBuilder(Table.DEAD_LETTERS).equal(
            "subscription", parse_uuid(request.subscription)
        )
        page = await self.page(request, request.query, Table.DEAD_LETTERS, one)
        items = [convert.dead_letter(letter) for letter in page.items]
        return pb.ListDeadLettersResponse(items=items, **total_of(page))

    async def RetryDeadLetter(
        self, request: pb.RetryDeadLetterRequest, context: Context
    ) -> pb.RetryDeadLetterResponse:
        letters = self.namespace(request).dead_letters
        queued = await letters.retry(parse_uuid(request.subscription), parse_uuid(request.id))
        set_http_status(context, 202)
        return pb.RetryDeadLetterResponse(dead_letter=convert.dead_letter(queued))

    async def RetryDeadLetters(
        self, request: pb.RetryDeadLettersRequest, context: Context
    ) -> pb.RetryDeadLettersResponse:
        letters = self.namespace(request).dead_letters
        queued = await letters.retry_all(parse_uuid(request.subscription))
        set_http_status(context, 202)
        return pb.RetryDeadLettersResponse(queued=queued)

    async def DeleteDeadLetter(
        self, request: pb.DeleteDeadLetterRequest, context: Context
    ) -> pb.DeleteDeadLetterResponse:
        letters = self.namespace(request).dead_letters
        await letters.drop(parse_uuid(request.subscription), parse_uuid(request.id))
        set_http_status(context, 204)
        return pb.DeleteDeadLetterResponse()
