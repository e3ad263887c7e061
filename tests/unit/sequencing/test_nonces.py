"""Goal: private pins at seal are FireFly's and count on from what is stored.

Method: directed cases, one against the hash of the reference notes, and a property: whatever is
sealed in whatever batches, each author's nonces per topic and group are 0, 1, 2, … in order.
"""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from photinus_core.model.canonical import broadcast_context, nonce_key, private_pin
from photinus_core.model.ids import Hash32
from photinus_core.sequencing.nonces import Pinned, nonce_keys, seal_pins

GROUP = "3fcc7e07069e441f07c9f6b26f16fcb2dc896222d72888675082fd308440d9ae"
AUTHOR = "did:firefly:org/org1"


def test_the_first_pin_of_the_notes() -> None:
    sealed = seal_pins([Pinned(("topic1",), GROUP, AUTHOR)], {})
    assert sealed.contexts == ("9c3b07a58e9e370757d21debf9e6f76d7e4d3257e80f420f12a45d329a305e8e",)
    assert sealed.pins == ((f"{sealed.contexts[0]}:0000000000000000",),)
    assert sealed.nonces == {nonce_key("topic1", GROUP, AUTHOR): 0}


def test_broadcasts_have_contexts_and_no_nonces() -> None:
    sealed = seal_pins([Pinned(("a", "b")), Pinned(("a",))], {})
    assert sealed.contexts == tuple(map(broadcast_context, ("a", "b", "a")))
    assert sealed.pins == ((), ())
    assert not sealed.nonces
    assert nonce_keys([Pinned(("a",))]) == []


def test_nonces_go_on_from_the_store_and_within_the_batch() -> None:
    key = nonce_key("a", GROUP, AUTHOR)
    messages = [Pinned(("a", "b"), GROUP, AUTHOR), Pinned(("a",), GROUP, AUTHOR)]
    assert nonce_keys(messages) == [key, nonce_key("b", GROUP, AUTHOR)]
    sealed = seal_pins(messages, {key: 6})
    assert sealed.contexts == (
        private_pin("a", GROUP, AUTHOR, 7),
        private_pin("b", GROUP, AUTHOR, 0),
        private_pin("a", GROUP, AUTHOR, 8),
    )
    assert sealed.nonces == {key: 8, nonce_key("b", GROUP, AUTHOR): 0}


def test_a_message_that_has_pins_keeps_them() -> None:
    pins = (f"{private_pin('a', GROUP, AUTHOR, 3)}:{3:016d}",)
    fill = Pinned(("a",), GROUP, AUTHOR, pins)
    assert nonce_keys([fill]) == []
    sealed = seal_pins([fill], {})
    assert sealed.pins == (pins,)
    assert sealed.contexts == (private_pin("a", GROUP, AUTHOR, 3),)
    assert not sealed.nonces


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.lists(st.sampled_from("ab"), min_size=1, max_size=2, unique=True),
                st.sampled_from(["x", "y"]),
            ),
            max_size=3,
        ),
        max_size=5,
    )
)
def test_nonces_have_no_gaps(batches: list[list[tuple[list[str], str]]]) -> None:
    stored: dict[Hash32, int] = {}
    seen: dict[tuple[str, str], list[str]] = defaultdict(list)
    for batch in batches:
        messages = [Pinned(tuple(topics), GROUP, author) for topics, author in batch]
        sealed = seal_pins(messages, {k: stored[k] for k in nonce_keys(messages) if k in stored})
        stored.update(sealed.nonces)
        pins = iter(sealed.contexts)
        for message in messages:
            for topic in message.topics:
                seen[topic, message.author].append(next(pins))
    for (topic, author), used in seen.items():
        assert used == [private_pin(topic, GROUP, author, n) for n in range(len(used))]
