"""Notices that the chain has moved: a WebSocket subscription to new heads, and polling beside or instead of it.

A notice says only "look now". What the chain is like is read by `blocks`, so a lost or doubled notice does no
harm, and a silent subscription costs at most one slow poll.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import orjson

from photinus_ethereum.rpc import redact_url

logger = logging.getLogger(__name__)

FRAME_BYTES_MAX = 16 * 1024 * 1024
HEARTBEAT_S = 10.0
RECONNECT_MIN_S = 0.2
RECONNECT_MAX_S = 5.0


@dataclass(slots=True)
class HeadNotices:
    """Calls `notify` when there may be a new head. `subscribed` tells whether a subscription is alive."""

    ws_url: str
    notify: Callable[[], None]
    subscribed: bool = False

    async def run(self) -> None:
        """Keeps a subscription alive; without a WebSocket URL there is nothing to do."""
        if not self.ws_url:
            return
        delay = RECONNECT_MIN_S
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    await self._subscribe(session)
                    delay = RECONNECT_MIN_S
                except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                    logger.info(
                        "no head subscription at %s (%s); polling", redact_url(self.ws_url), error
                    )
                finally:
                    was, self.subscribed = self.subscribed, False
                if was:
                    delay = RECONNECT_MIN_S
                    self.notify()
                await asyncio.sleep(delay)
                delay = min(delay * 2, RECONNECT_MAX_S)

    async def _subscribe(self, session: aiohttp.ClientSession) -> None:
        async with session.ws_connect(
            self.ws_url, heartbeat=HEARTBEAT_S, max_msg_size=FRAME_BYTES_MAX
        ) as socket:
            request = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
            await socket.send_str(orjson.dumps(request).decode())
            message = await socket.receive(timeout=HEARTBEAT_S)
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise ValueError("the node closes instead of answering eth_subscribe")
            answer = orjson.loads(message.data)
            if not isinstance(answer, dict) or "result" not in answer:
                raise ValueError("the node refuses eth_subscribe")
            self.subscribed = True
            self.notify()
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                self.notify()
