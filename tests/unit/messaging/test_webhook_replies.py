"""Answers of webhooks become messages that answer the question, once.

Method: the real sender over the SQLite store, with connectors in memory (`office`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from photinus_core.events.webhook_requests import Reply
from photinus_core.model.errors import NotFound, Rejected
from photinus_core.model.ids import Hash32, new_uuid
from photinus_core.model.messages import MessageType
from photinus_core.namespaces.replies import send_reply
from photinus_core.ports.store import ReadyMessage

from tests.unit.messaging.office import NS, Office, Place, open_place, to

VALUE = '{"status":200,"headers":{},"body":{"ok":true}}'


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with open_place(tmp_path) as made:
        yield made


@pytest.fixture
async def office(place: Place) -> Office:
    return await place.office()


def reply() -> Reply:
    return Reply(new_uuid(), ("t1", "t2"), "re", None, "", VALUE, f"webhook/{new_uuid()}/1")


async def sent(place: Place) -> list[ReadyMessage]:
    async with place.store.read(NS) as reader:
        return await reader.ready_messages(0, 100)


async def test_a_reply_is_sent_once(place: Place, office: Office) -> None:
    """A replica that took over calls again; it must not answer again."""
    answer = reply()
    for value in (VALUE, '{"status":500}'):
        await send_reply(office.sender, replace(answer, value=value))
    (ready,) = await sent(place)
    made = await place.message(ready.id)
    header = made.header
    assert (header.cid, header.topics, header.tag) == (answer.cid, ("t1", "t2"), "re")
    assert header.type is MessageType.BROADCAST
    assert (await office.data.get(made.data[0].id)).value == VALUE


@pytest.mark.parametrize(
    ("txtype", "want"), [("", "batch_pin"), ("unpinned", "unpinned"), ("batch_pin", "batch_pin")]
)
async def test_a_private_question_is_answered_in_its_group(
    place: Place, office: Office, txtype: str, want: str
) -> None:
    asked = await office.sender.private(to("bob"))
    group = asked.header.group
    await send_reply(office.sender, replace(reply(), group=group, txtype=txtype))
    made = await place.message((await sent(place))[-1].id)
    assert (made.header.type, made.header.group) == (MessageType.PRIVATE, group)
    assert made.header.txtype == want


async def test_what_cannot_be_sent_is_told(office: Office) -> None:
    with pytest.raises(NotFound, match="FF10226"):
        await send_reply(office.sender, replace(reply(), group=Hash32("0" * 64)))
    with pytest.raises(Rejected, match="FF00140"):
        await send_reply(office.sender, replace(reply(), tag="no tag"))
