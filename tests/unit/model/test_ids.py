"""Identifiers from outside are brought to one form or refused; new ones sort by age.

Method: tables.
"""

import pytest
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import is_uuid, new_uuid, parse_hash, parse_uuid

UUID = "7757b209-f982-4732-a674-3f54dc2c3896"
HASH = "3fcc7e07069e441f07c9f6b26f16fcb2dc896222d72888675082fd308440d9ae"


@pytest.mark.parametrize("text", [UUID, UUID.upper(), f" {UUID}\n"])
def test_uuids(text: str) -> None:
    assert parse_uuid(text) == UUID


@pytest.mark.parametrize(
    "text", ["", "notauuid", UUID[:-1], UUID + "0", UUID.replace("-", ""), "g" + UUID[1:]]
)
def test_what_is_no_uuid(text: str) -> None:
    length = (
        "invalid UUID format" if len(text) == len(UUID) else f"invalid UUID length: {len(text)}"
    )
    with pytest.raises(Rejected, match=f"^FF00138: Invalid UUID supplied: {length}$"):
        parse_uuid(text)
    assert not is_uuid(text)


@pytest.mark.parametrize("text", [HASH, HASH.upper(), f"0x{HASH}", f"0X{HASH}"])
def test_hashes(text: str) -> None:
    assert parse_hash(text) == HASH


@pytest.mark.parametrize("text", ["", "0x", HASH[:-1], HASH + "00", "z" + HASH[1:]])
def test_what_is_no_hash(text: str) -> None:
    with pytest.raises(Rejected, match=r"FF00107: Byte length must be 32 \(64 hex characters\)$"):
        parse_hash(text)


def test_new_ids_are_uuids_that_sort_by_age() -> None:
    ids = [new_uuid() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(is_uuid(one) and one[14] == "7" and one[19] in "89ab" for one in ids)
