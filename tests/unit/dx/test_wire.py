"""Goal: forms and batches survive every way they can be cut, and nothing malformed passes.

Method: round trips over random cuts (Hypothesis), and tables of what is refused with which reason.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_dx.errors import PeerRefusal
from photinus_dx.wire import (
    BatchItem,
    FileForm,
    blob_place,
    boundary_of,
    decode_batch,
    decode_form,
    encode_batch,
    encode_form,
    file_form,
    network_of,
)

UUID = "c0e3b9f2-0b5a-4a26-9f5d-3a4a8f6f0c11"
FIELD_NAMES = st.sampled_from(["senderDestination", "recipientDestination", "message"])


@given(st.dictionaries(FIELD_NAMES, st.text()))
def test_forms_round_trip(fields: dict[str, str]) -> None:
    body, content_type = encode_form(fields.items())
    if fields:
        assert decode_form(body, content_type) == fields
    else:
        with pytest.raises(PeerRefusal):
            decode_form(body, content_type)


async def cut(body: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    edges = [0, *sorted(edge % (len(body) + 1) for edge in cuts), len(body)]
    for start, end in pairwise(edges):
        if start != end:
            yield body[start:end]


def read_file_form(body: bytes, content_type: str, cuts: list[int]) -> tuple[dict[str, str], bytes]:
    async def read() -> tuple[dict[str, str], bytes]:
        form = FileForm(cut(body, cuts), content_type)
        fields = await form.fields()
        return fields, b"".join([chunk async for chunk in form.content()])

    return asyncio.run(read())


@given(
    st.binary(max_size=3000),
    st.dictionaries(st.sampled_from(["senderDestination", "recipientDestination"]), st.just("n1")),
    st.lists(st.integers(min_value=0), max_size=8),
)
def test_files_round_trip_however_they_are_cut(
    content: bytes, fields: dict[str, str], cuts: list[int]
) -> None:
    head, tail, content_type = file_form(fields.items())
    assert read_file_form(head + content + tail, content_type, cuts) == (fields, content)


def test_content_that_looks_like_a_boundary_is_content() -> None:
    head, tail, content_type = file_form([])
    delimiter = b"\r\n--" + boundary_of(content_type)
    content = delimiter[:-1] + delimiter[:5] + b"\r\n--"
    for place in range(len(content)):
        found = read_file_form(head + content + tail, content_type, [len(head) + place])
        assert found == ({}, content)


@given(st.integers(min_value=1, max_value=200), st.lists(st.integers(min_value=0), max_size=4))
def test_a_truncated_file_is_noticed(missing: int, cuts: list[int]) -> None:
    head, tail, content_type = file_form([("senderDestination", "n1")])
    body = head + b"content" * 10 + tail
    with pytest.raises(PeerRefusal) as refused:
        # The bytes behind the closing boundary say nothing.
        read_file_form(body[: -4 - min(missing, len(body) - 5)], content_type, cuts)
    assert refused.value.reason == "TRUNCATED"


def test_parts_and_values_have_limits() -> None:
    content_type = "multipart/form-data; boundary=b"
    long_head = b"--b\r\nX: " + b"y" * 9000 + b"\r\n\r\n"
    long_value = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"y" * 900
    for body in (long_head, long_value + b"\r\n--b--\r\n", b"x" * 9000):
        with pytest.raises(PeerRefusal) as refused:
            read_file_form(body, content_type, list(range(0, len(body), 100)))
        assert refused.value.reason == "BAD_FORM"


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        ('multipart/form-data; boundary="----x123"', b"----x123"),
        ("multipart/form-data; boundary=", None),
        ("multipart/mixed; boundary=abc", None),
        ("application/json", None),
        ("", None),
        ("multipart/form-data; boundary=" + "x" * 71, None),
    ],
)
def test_boundaries(content_type: str, boundary: bytes | None) -> None:
    if boundary is None:
        with pytest.raises(PeerRefusal):
            boundary_of(content_type)
    else:
        assert boundary_of(content_type) == boundary


TEXT = st.text(max_size=200)


@given(st.lists(st.builds(BatchItem, st.just(UUID), TEXT, TEXT, TEXT), max_size=20))
def test_batches_round_trip(items: list[BatchItem]) -> None:
    assert list(decode_batch(encode_batch(items))) == items


def test_a_batch_has_a_limit() -> None:
    body = encode_batch([BatchItem(UUID, "", "", "x")] * 201)
    with pytest.raises(PeerRefusal) as refused:
        list(decode_batch(body))
    assert refused.value.reason == "BAD_BATCH"


@given(st.binary(max_size=64))
def test_garbage_is_no_batch(body: bytes) -> None:
    head = b"\x00\x00\x00\x02\x00\x00\x00\x01"
    with pytest.raises(PeerRefusal) as refused:
        list(decode_batch(head + body))  # `{}` is no head, and nothing else is either
    assert refused.value.reason == "BAD_BATCH"


@pytest.mark.parametrize(
    "wrapper",
    [
        {"batch": {"namespace": "net1"}},
        {"group": {"name": "g"}, "batch": {"id": UUID, "namespace": "net1", "payload": {"x": [1]}}},
    ],
)
def test_the_network_of_a_wrapper(wrapper: object) -> None:
    assert network_of(json.dumps(wrapper)) == "net1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"batch":null}',
        '{"batch":{"namespace":1}}',
        '{"batch":{"namespace":""}}',
        '{"batch":{"namespace":"a b"}}',
        '{"batch":{"namespace":"-a"}}',
        '{"batch":{"namespace":"' + "x" * 65 + '"}}',
        '{"batch":{"namespace":"net1"}',
        '{"batch":{"namespace":"net1"}} x',
        "[" * 100_000,
    ],
)
def test_what_is_no_wrapper_is_refused(text: str) -> None:
    with pytest.raises(PeerRefusal) as refused:
        network_of(text)
    assert (refused.value.status, refused.value.reason) == (400, "MALFORMED_MESSAGE")
    assert refused.value.final


def test_the_place_of_a_blob() -> None:
    assert blob_place(f"/api/v1/blobs/net-1.x/{UUID}") == ("net-1.x", UUID)
    for path in ("", "/", f"/blobs/net1/{UUID}", f"/api/v1/blobs/..//{UUID}", "/api/v1/blobs/a/b"):
        with pytest.raises(PeerRefusal) as refused:
            blob_place(path)
        assert refused.value.reason == "BAD_PATH"
