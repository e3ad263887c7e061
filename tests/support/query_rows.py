"""Messages for tests of queries against plain Python: what Hypothesis makes them of, how fields are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from hypothesis import strategies as st
from photinus_core.model.ids import Nanoseconds
from photinus_core.model.messages import Message, MessageState

from tests.support.store_records import make_message

MESSAGE_FIELDS: Final[Mapping[str, Callable[[Message], Any]]] = {
    "tag": lambda m: m.header.tag,
    "author": lambda m: m.header.author,
    "rejectreason": lambda m: m.reject_reason,
    "cid": lambda m: m.header.cid or "",
    "topics": lambda m: ",".join(m.header.topics),
    "state": lambda m: m.state.value,
    "sequence": lambda m: m.sequence,
    "created": lambda m: m.header.created,
    "confirmed": lambda m: m.confirmed,
}
"""Fields of all kinds by the names that queries use; '' and None are nothing."""


@st.composite
def messages(
    draw: st.DrawFn,
    texts: st.SearchStrategy[str],
    topics: st.SearchStrategy[str],
    moments: st.SearchStrategy[int],
) -> Message:
    """A message with such texts, topics and times."""
    message = make_message()
    header = msgspec.structs.replace(
        message.header,
        tag=draw(texts),
        author=draw(texts),
        cid=draw(st.one_of(st.none(), texts.filter(bool))),
        topics=tuple(draw(st.lists(topics, min_size=1, max_size=3, unique=True))),
        created=Nanoseconds(draw(moments)),
    )
    return msgspec.structs.replace(
        message,
        header=header,
        state=draw(st.sampled_from([MessageState.READY, MessageState.CONFIRMED])),
        reject_reason=draw(texts),
        confirmed=draw(st.one_of(st.none(), moments.map(Nanoseconds))),
    )
