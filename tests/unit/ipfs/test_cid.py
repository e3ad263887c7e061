"""Goal: content identifiers are read, printed and checked as the rest of the IPFS world does.

Method: identifiers a recorded Kubo gave, in their different spellings, and text that is none.
"""

import pytest
from photinus_ipfs.cid import DAG_PB, IDENTITY, RAW, BadCid, Cid, read_varint, varint

HELLO_V0 = "QmWfVY9y3xjsixTgbd9AorQxH7VtMpzfx2HaWtsoUYecaX"
HELLO_RAW = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"
TREE_V1 = "bafybeiea6hieaul4qfpegxnig3gctj7dlphujrltoxyyg53vjvn6c7widy"


@pytest.mark.parametrize("text", [HELLO_V0, HELLO_RAW, TREE_V1])
def test_text_and_bytes_round_trip(text: str) -> None:
    cid = Cid.parse(text)
    assert str(cid) == text
    assert Cid.from_bytes(cid.to_bytes()) == cid


def test_kinds() -> None:
    assert (Cid.parse(HELLO_V0).version, Cid.parse(HELLO_V0).codec) == (0, DAG_PB)
    assert (Cid.parse(HELLO_RAW).version, Cid.parse(HELLO_RAW).codec) == (1, RAW)
    assert (Cid.parse(TREE_V1).version, Cid.parse(TREE_V1).codec) == (1, DAG_PB)


def test_other_spellings_name_the_same() -> None:
    cid = Cid.parse(HELLO_RAW)
    assert Cid.parse("f" + cid.to_bytes().hex()) == cid


def test_raw_bytes_fit_only_their_own_name() -> None:
    assert Cid.parse(HELLO_RAW).fits(b"hello")
    assert not Cid.parse(HELLO_RAW).fits(b"hullo")


def test_identity_hash_holds_the_bytes() -> None:
    cid = Cid.from_bytes(bytes([1, RAW, IDENTITY, 5]) + b"hello")
    assert cid.fits(b"hello")
    assert not cid.fits(b"hullo")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "Qm",
        "../../etc/passwd",
        "0" * 46,
        "Qm" + "l" * 44,  # l is not in base58
        HELLO_V0[:-1],
        HELLO_V0 + "X",
        "b" + HELLO_RAW[1:].upper(),
        HELLO_RAW[:-2],
        "b!!!!",
        "fzz",
        "f0155120405",
        "f02551220" + "00" * 32,  # version 2
        "f01711220" + "00" * 32,  # dag-cbor: no file
        "f01551320" + "00" * 32,  # another hash function
        "f" + "ff" * 20,
        "b" * 600,
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadCid):
        Cid.parse(text)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**63])
def test_varints_round_trip(value: int) -> None:
    encoded = varint(value)
    assert read_varint(encoded, 0) == (value, len(encoded))
