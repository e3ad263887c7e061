"""Name rules. Method: tables of what must pass and what must fail, with codes; properties for paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import new_uuid
from photinus_core.model.names import (
    IDEMPOTENCY_KEY_CHARS_MAX,
    blob_name,
    blob_path,
    check_idempotency_key,
    check_name,
    check_name_not_uuid,
    check_tag,
    check_text,
    check_topics,
)


@pytest.mark.parametrize("name", ["a", "A0", "a.b-c_d", "0" * 64, "x" + "." * 62 + "y"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "-a", "a-", "a b", "é", "a" * 65, "a\n", "a,b", "a\x00", "١"]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(Rejected, match=r"FF00140: Field 'header\.tag' must be 1-64"):
        check_name(name, "header.tag")


def test_names_that_are_also_found_by_id_are_no_uuids() -> None:
    assert check_name_not_uuid("my-name") == "my-name"
    with pytest.raises(Rejected, match="FF00141"):
        check_name_not_uuid(new_uuid().upper())


def test_topics() -> None:
    assert check_topics(()) == ("default",)
    assert check_topics(["b", "a"]) == ("b", "a")


@pytest.mark.parametrize(
    ("topics", "code"),
    [
        (
            [f"t{i}" for i in range(11)],
            "FF00134: There may be at most 10 header.topics items (supplied=11)",
        ),
        (["a", "b", "a"], "FF00133: Duplicate header.topics at index 2: 'a'"),
        (["a", "_"], "FF00140: Field 'header.topics[1]'"),
    ],
)
def test_bad_topics(topics: list[str], code: str) -> None:
    with pytest.raises(Rejected) as caught:
        check_topics(topics)
    assert str(caught.value).startswith(code)


def test_an_empty_tag_is_none() -> None:
    assert check_tag("") == ""
    with pytest.raises(Rejected, match=r"FF00140: Field 'header\.tag'"):
        check_tag("a b")


def test_idempotency_keys() -> None:
    assert check_idempotency_key("any text, even ü") == "any text, even ü"
    check_idempotency_key("k" * IDEMPOTENCY_KEY_CHARS_MAX)
    with pytest.raises(Rejected, match="FF00135: Field 'idempotencyKey' maximum length is 256"):
        check_idempotency_key("k" * (IDEMPOTENCY_KEY_CHARS_MAX + 1))


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_text_that_no_database_can_store(text: str) -> None:
    with pytest.raises(Rejected, match="FF19008"):
        check_text(text, "description")


@pytest.mark.parametrize(
    ("value", "name", "path"),
    [
        (None, "", ""),
        ("{}", "", ""),
        ('"text"', "", ""),
        ("[1]", "", ""),
        ('{"name":5}', "", ""),
        ('{"name":"a.txt"}', "a.txt", "/"),
        ('{"name":"/p/q/a.txt"}', "/p/q/a.txt", "/p/q"),
        ('{"name":"","filename":"b.txt"}', "b.txt", "/"),
        ('{"path":"p/q","filename":"b.txt"}', "p/q/b.txt", "/p/q"),
        ('{"path":"p"}', "", ""),
        ('{"name":"n","path":"p","filename":"f","more":{"deep":[1]}}', "n", "/"),
    ],
)
def test_blob_names(value: str | None, name: str, path: str) -> None:
    assert blob_name(value) == name
    assert blob_path(name) == path


@given(st.text())
def test_blob_paths_are_folders(name: str) -> None:
    path = blob_path(name)
    assert (path == "") == (name == "")
    assert path in {"", "/"} or path.startswith("/")
