"""Goal: transactions are what Ethereum expects, and keys are shown to nobody.

Method: signed bytes are compared with eth_account's and with the vector of EIP-155; a keystore file is made by
eth_account and read back; secrets are looked for in reprs and errors.
"""

import json
from pathlib import Path

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from photinus_ethereum.keys import LocalSigner, from_hex, from_keystore, ring
from photinus_ethereum.transactions import Fees, Payload, parse, sign
from photinus_sdk.errors import NotFound, Rejected

KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ADDRESS = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
AMOUNT = st.integers(0, 2**96)


def test_legacy_vector_of_eip155() -> None:
    signer = LocalSigner(b"\x46" * 32)
    payload = Payload(b"\x35" * 20, 10**18, b"", 21_000)
    signed = sign(payload, 9, Fees(20 * 10**9, None), 1, signer)
    assert signed.raw.hex() == (
        "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a0"
        "28ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb70330"
        "4b3800ccf555c9f3dc64214b297fb1966a3b6d83"
    )


@given(
    st.integers(0, 2**64),
    st.sampled_from([b"", b"\x11" * 20]),
    AMOUNT,
    st.binary(max_size=300),
    st.integers(0, 2**40),
    AMOUNT,
    st.one_of(st.none(), AMOUNT),
)
def test_signed_bytes_are_those_of_eth_account(
    nonce: int, to: bytes, value: int, data: bytes, gas: int, max_fee: int, tip: int | None
) -> None:
    ours = sign(Payload(to, value, data, gas), nonce, Fees(max_fee, tip), 1337, from_hex(KEY))
    fields = {
        "nonce": nonce,
        "value": value,
        "data": data,
        "gas": gas,
        "chainId": 1337,
        "to": "0x" + to.hex() if to else "",
    }
    if tip is None:
        fields |= {"gasPrice": max_fee}
    else:
        fields |= {"maxFeePerGas": max_fee, "maxPriorityFeePerGas": tip, "type": 2}
    theirs = Account.sign_transaction(fields, KEY)
    assert ours.raw == bytes(theirs.raw_transaction)
    assert ours.hash == "0x" + bytes(theirs.hash).hex()
    assert parse(ours.raw) == ours


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\xc0", b"\x02\xc0", b"\xf8\xff\x01", b"\x80"])
def test_other_bytes_are_not_read(raw: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse(raw)


def test_keystore_file_of_version_3(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(
        json.dumps(Account.encrypt(bytes.fromhex(KEY), "open sesame", kdf="pbkdf2", iterations=10))
    )
    assert from_keystore(path, "open sesame").address == ADDRESS
    with pytest.raises(ValueError, match=r"key\.json: the password does not fit"):
        from_keystore(path, "wrong")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version":1}', '{"version":3}', "\xff"])
def test_files_that_are_no_keystore(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"key\.json: not a keystore file of version 3"):
        from_keystore(path, "x")


def test_missing_and_mislabelled_keystores(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.json: No such file"):
        from_keystore(tmp_path / "absent.json", "x")
    document = Account.encrypt(bytes.fromhex(KEY), "x", kdf="pbkdf2", iterations=10)
    path = tmp_path / "key.json"
    path.write_text(json.dumps(document | {"address": "11" * 20}))
    with pytest.raises(ValueError, match="another address"):
        from_keystore(path, "x")


@pytest.mark.parametrize("secret", ["deadbeef", "zz" * 32, "00" * 32, "ff" * 32])
def test_bad_raw_keys_are_refused_without_being_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        from_hex(secret)
    assert secret not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__cause__ is None


def test_secrets_are_not_shown() -> None:
    signer = from_hex("0x" + KEY)
    held = ring([signer])
    shown = f"{signer!r} {signer} {held!r} {vars(type(signer))}"
    assert KEY not in shown
    assert str(int(KEY, 16)) not in shown
    assert ADDRESS in shown


def test_resolving_keys() -> None:
    held = ring([from_hex(KEY)])
    assert held.resolve("") == held.resolve(ADDRESS.upper().replace("0X", "0x")) == ADDRESS
    assert held.resolve("11" * 20) == "0x" + "11" * 20
    with pytest.raises(NotFound) as unknown:
        held.signer(held.resolve("11" * 20))
    assert unknown.value.reason == "UNKNOWN_KEY"
    for bad in ("junk", "0x12", "0x" + "zz" * 20):
        with pytest.raises(Rejected, match="FF10141") as caught:
            held.resolve(bad)
        assert caught.value.reason == "INVALID_KEY"
    with pytest.raises(Rejected, match="FF10354"):
        ring([]).resolve("")
    with pytest.raises(ValueError, match="not among"):
        ring([from_hex(KEY)], "0x" + "11" * 20)
