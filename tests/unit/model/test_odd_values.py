"""Goal: a member reads every value that another member may send, however odd.

Method: values that the fast parser refuses but Go's takes, written into a batch and read back;
what is no JSON at all is still refused. A value that only its sender could read would hold up its
topics at everybody else for ever.
"""

from __future__ import annotations

import pytest
from photinus_core.model import canonical
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Namespace
from photinus_core.model.wire import decode_batch, decode_wrapper

UUID = "01a1fe18-8738-70b7-a277-fe46041633bd"
HASH = "ab" * 32
NAMESPACE = Namespace("default")

ODD = [
    r'"\ud800"',
    r'{"cut emoji":"\ud83d","value":"\udc00"}',
    "[" * 5000 + "]" * 5000,
    '{"a":' * 3000 + "1" + "}" * 3000,
    r'[{"payload":{"data":[{"value":"\ud800"}]}}]',
    "7",
]


def payload_of(*values: str) -> str:
    data = ",".join(f'{{"id":"{UUID}","hash":"{HASH}", "value": {value} }}' for value in values)
    return (
        f'{{"id":"{UUID}","type":"broadcast","hash":"{HASH}",'
        f'"payload":{{"tx":{{"type":"batch_pin","id":"{UUID}"}},"messages":[],"data":[{data}]}}}}'
    )


@pytest.mark.parametrize("value", ODD, ids=lambda v: v[:20])
def test_odd_value_is_read(value: str) -> None:
    text = payload_of("1", value, '{"after": true}')
    wanted = ["1", canonical.compact(value), '{"after":true}']
    assert [d.value for d in decode_batch(text, NAMESPACE).data] == wanted
    assert [d.value for d in decode_batch(text.encode(), NAMESPACE).data] == wanted
    wrapped, _ = decode_wrapper(f'{{"batch":{text}}}', NAMESPACE)
    assert [d.value for d in wrapped.data] == wanted


def test_bytes_that_are_not_utf8_become_what_go_makes_of_them() -> None:
    text = payload_of(r'"\ud800?"').encode().replace(b"?", b"\xff")
    assert decode_batch(text, NAMESPACE).data[0].value == '"\\ud800\ufffd"'


@pytest.mark.parametrize(
    "text",
    [
        payload_of(r'"\ud800"')[:-4],
        payload_of(r'"\ud800" 5'),
        payload_of("[" * 20_000 + "]" * 20_000),
        payload_of(r'"\ud800"') + "}",
        "{" * 100_000,
        '{"a":' * 100_000,
        payload_of(r'"\x"'),
        payload_of(""),
        r'{"payload":{"data":[{"value":"\ud800"}]}}',
    ],
    ids=range(9),
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="FF19400"):
        decode_batch(text, NAMESPACE)
