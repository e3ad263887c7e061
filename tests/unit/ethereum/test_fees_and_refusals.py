"""Goal: offers are what the chain asks for, replacements are taken, refusals are understood.

Method: quotes from the in-memory node; properties of raised offers; words of real nodes in a table.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_ethereum.fees import FeeOracle, FeeSettings, Mode, raised
from photinus_ethereum.gas import TRANSACTION_GAS_MAX, GasOracle, GasSettings, refused
from photinus_ethereum.hexes import Address
from photinus_ethereum.node_errors import Refusal, classify, revert_data, revert_words
from photinus_ethereum.rpc import RpcError
from photinus_ethereum.transactions import Fees, Payload
from photinus_sdk.errors import InsufficientFunds, Rejected, Reverted, Unavailable

from tests.support.evm_node import BASE_FEE, EvmNode

WEI = st.integers(0, 2**80)
SIGNER = Address("0x" + "11" * 20)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("auto", Fees(2 * BASE_FEE + 7, 7)),
        ("eip1559", Fees(2 * BASE_FEE + 7, 7)),
        ("legacy", Fees(7, None)),
    ],
)
async def test_quotes_follow_the_mode(mode: Mode, expected: Fees) -> None:
    node = EvmNode()
    node.gas_price = 7
    assert await FeeOracle(node, FeeSettings(mode=mode)).quote() == expected


async def test_settings_override_the_node() -> None:
    node = EvmNode()
    assert await FeeOracle(node, FeeSettings(gas_price=0)).quote() == Fees(0, None)
    assert node.calls == []
    assert (await FeeOracle(node, FeeSettings(tip=3)).quote()).tip == 3
    capped = await FeeOracle(node, FeeSettings(max_fee=5)).quote()
    assert capped == Fees(5, 5)


async def test_a_quote_is_asked_for_once_until_it_is_invalid() -> None:
    node = EvmNode()
    oracle = FeeOracle(node, FeeSettings())
    await oracle.quote()
    asked = len(node.calls)
    await oracle.quote()
    assert len(node.calls) == asked
    oracle.invalidate()
    await oracle.quote()
    assert len(node.calls) == 2 * asked


async def test_a_node_that_is_away_gives_no_quote_and_is_asked_again() -> None:
    node = EvmNode()
    oracle = FeeOracle(node, FeeSettings())
    node.down = True
    with pytest.raises(Unavailable):
        await oracle.quote()
    node.down = False
    assert (await oracle.quote()).tip == BASE_FEE


@given(WEI, st.booleans(), st.lists(WEI, min_size=3, max_size=3))
def test_a_raised_offer_is_one_that_nodes_take(
    max_fee: int, legacy: bool, others: list[int]
) -> None:
    tip = None if legacy else min(others[0], max_fee)
    quote = Fees(others[1], None if legacy else min(others[1:]))
    fees = Fees(max_fee, tip)
    higher = raised(fees, quote, None)
    assert higher is not None
    assert higher.max_fee * 10 >= fees.max_fee * 11
    assert higher.max_fee > fees.max_fee
    assert higher.max_fee >= quote.max_fee
    if tip is None:
        assert higher.tip is None
    else:
        assert higher.tip is not None
        assert higher.tip * 10 >= tip * 11


@given(st.integers(100, 2**80), st.integers(100, 2**80))
def test_the_limit_is_kept_or_nothing_is_offered(max_fee: int, cap: int) -> None:
    higher = raised(Fees(max_fee, max_fee // 2), Fees(0, 0), cap)
    if higher is not None:
        assert higher.max_fee <= max(cap, 0)
        assert higher.max_fee * 10 >= max_fee * 11
    else:
        assert cap * 10 < max_fee * 11 + 10


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (-32000, "already known", Refusal.KNOWN),
        (-32003, "transaction already imported", Refusal.KNOWN),
        (-32000, "Known transaction", Refusal.KNOWN),
        (-32000, "nonce too low: next nonce 5, tx nonce 3", Refusal.NONCE_TOO_LOW),
        (-32001, "Nonce too low", Refusal.NONCE_TOO_LOW),
        (-32000, "replacement transaction underpriced", Refusal.UNDERPRICED),
        (-32000, "transaction underpriced: gas tip cap 0, minimum needed 1", Refusal.UNDERPRICED),
        (-32003, "max fee per gas less than block base fee", Refusal.UNDERPRICED),
        (-32000, "Gas price below configured minimum gas price", Refusal.UNDERPRICED),
        (
            -32000,
            "insufficient funds for gas * price + value: balance 0",
            Refusal.INSUFFICIENT_FUNDS,
        ),
        (-32003, "Insufficient funds for gas * price + value", Refusal.INSUFFICIENT_FUNDS),
        (-32004, "Upfront cost exceeds account balance", Refusal.INSUFFICIENT_FUNDS),
        (-32000, "gas required exceeds allowance (0)", Refusal.INSUFFICIENT_FUNDS),
        (3, "execution reverted: unlucky value", Refusal.REVERTED),
        (-32015, "VM execution error: reverted", Refusal.REVERTED),
        (-32000, "txpool is full", Refusal.BUSY),
        (-32005, "rate limit exceeded", Refusal.BUSY),
        (-32000, "nonce too high", Refusal.NONCE_TOO_HIGH),
        (-32000, "intrinsic gas too low", Refusal.INVALID),
        (-32000, "exceeds block gas limit", Refusal.INVALID),
        (-32000, "something new", Refusal.OTHER),
    ],
)
def test_words_of_nodes(code: int, message: str, expected: Refusal) -> None:
    assert classify(RpcError(code, message)) is expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("0x0102", b"\1\2"),
        ("Reverted 0x0102", b"\1\2"),
        ({"data": "0x0102"}, b"\1\2"),
        (None, b""),
        ("0xz", b""),
    ],
)
def test_revert_data_wherever_a_node_puts_it(data: object, expected: bytes) -> None:
    assert revert_data(RpcError(3, "reverted", data)) == expected
    assert revert_words(RpcError(3, "execution reverted: why")) == "why"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("execution reverted: no", Reverted),
        ("insufficient funds", InsufficientFunds),
        ("intrinsic gas too low", Rejected),
        ("rate limit", Unavailable),
    ],
)
def test_refusals_become_errors_of_the_protocol(message: str, kind: type[Exception]) -> None:
    assert isinstance(refused(RpcError(-32000, message), ()), kind)


async def test_gas_is_estimated_and_kept_by_shape() -> None:
    node = EvmNode()
    oracle = GasOracle(node, GasSettings(factor=1.5))
    payload = Payload(bytes(20), 0, b"", 0)
    assert await oracle.limit(SIGNER, payload, Fees(1, 1)) == 75_000
    assert oracle.known(("a",)) is None
    oracle.keep(("a",), 75_000)
    assert oracle.known(("a",)) == 75_000
    oracle.forget()
    assert oracle.known(("a",)) is None


async def test_the_factor_does_not_exceed_what_a_block_or_transaction_may_hold() -> None:
    node = EvmNode()
    node.refuse = lambda method, _params: hex(29_000_000) if method == "eth_estimateGas" else None  # type: ignore[assignment,return-value]  # an answer in place of a refusal
    limit = await GasOracle(node, GasSettings()).limit(SIGNER, Payload(b"", 0, b"", 0), Fees(1, 1))
    assert limit == 29_000_000 > TRANSACTION_GAS_MAX
