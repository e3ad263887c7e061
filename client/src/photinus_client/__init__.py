"""A small typed client of the Photinus API.

    async with Client("unix:/run/photinus/core.sock") as client:
        sent = await client.messages.BroadcastMessage(BroadcastMessageRequest(...))

`Client` has a stub for each service of `photinus.api.v1`, uploads and downloads blobs, and iterates over the events of
a subscription. Every failure is a `PhotinusError` with FireFly's code. A core that asks who calls is told with
`Client(address, authorization=basic(user, password))`, or `bearer(token)`.
"""

from photinus_client.authorization import Authorization, authorizing, basic, bearer
from photinus_client.blobs import Download
from photinus_client.client import Client
from photinus_client.errors import PhotinusError
from photinus_client.events import Delivery, EventStream

__all__ = [
    "Authorization",
    "Client",
    "Delivery",
    "Download",
    "EventStream",
    "PhotinusError",
    "authorizing",
    "basic",
    "bearer",
]
