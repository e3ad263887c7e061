"""What a node's refusal means.

Nodes agree on few codes, so their words are looked at: geth, Besu, Nethermind, Erigon and anvil alike.
"""

from enum import Enum, auto

from photinus_ethereum.rpc import RpcError

REVERT_CODE = 3


class Refusal(Enum):
    """How a transaction, or an estimate of one, was refused."""

    KNOWN = auto()
    NONCE_TOO_LOW = auto()
    NONCE_TOO_HIGH = auto()
    UNDERPRICED = auto()
    INSUFFICIENT_FUNDS = auto()
    REVERTED = auto()
    BUSY = auto()
    INVALID = auto()
    OTHER = auto()


# Order matters: "replacement transaction underpriced" before "transaction underpriced", and so on.
_WORDS: tuple[tuple[Refusal, tuple[str, ...]], ...] = (
    (
        Refusal.KNOWN,
        (
            "already known",
            "known transaction",
            "already imported",
            "alreadyknown",
            "already in mempool",
        ),
    ),
    (
        Refusal.NONCE_TOO_LOW,
        ("nonce too low", "nonce is too low", "noncetoolow", "nonce below current", "oldnonce"),
    ),
    (
        Refusal.UNDERPRICED,
        (
            "underpriced",
            "fee too low",
            "gas price too low",
            "gas price below",
            "feetoolow",
            "less than block base fee",
            "below base fee",
            "max fee per gas less",
            "gas price less",
            "price is less than",
            "tip cap below",
            "gas tip",
        ),
    ),
    (
        Refusal.INSUFFICIENT_FUNDS,
        (
            "insufficient funds",
            "insufficient balance",
            "insufficientfunds",
            "upfront cost exceeds",
            "doesn't have enough funds",
            "gas required exceeds allowance",
        ),
    ),
    (Refusal.REVERTED, ("revert", "invalid opcode", "out of gas", "stack underflow")),
    (
        Refusal.BUSY,
        (
            "txpool is full",
            "pool is full",
            "account limit exceeded",
            "too many transactions",
            "rate limit",
            "too many requests",
            "timeout",
            "not synced",
            "syncing",
            "nonce too distant",
            "limit exceeded",
        ),
    ),
    (Refusal.NONCE_TOO_HIGH, ("nonce too high", "nonce gap", "gapped-nonce", "nonce is distant")),
    (
        Refusal.INVALID,
        (
            "intrinsic gas too low",
            "exceeds block gas limit",
            "gas limit too high",
            "gas limit reached",
            "exceeds transaction gas",
            "gas limit is too high",
            "max initcode size",
            "oversized data",
            "invalid sender",
            "invalid chain id",
            "type not supported",
            "invalid transaction",
            "exceeds the configured cap",
            "rlp:",
        ),
    ),
)


def classify(error: RpcError) -> Refusal:
    """The meaning of an error object of a submission or an estimate."""
    if error.code == REVERT_CODE:
        return Refusal.REVERTED
    message = error.message.lower()
    for refusal, words in _WORDS:
        if any(word in message for word in words):
            return refusal
    return Refusal.OTHER


def revert_data(error: RpcError) -> bytes:
    """The bytes a contract reverted with; empty when the node gives none."""
    data = error.data
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    if isinstance(data, str):
        # Besu and Parity's heirs write "Reverted 0x…".
        text = data.removeprefix("Reverted ").strip()
        if text.startswith("0x"):
            try:
                return bytes.fromhex(text[2:])
            except ValueError:
                return b""
    return b""


def revert_words(error: RpcError) -> str:
    """The node's own words, shortened to what the contract said where it quotes it."""
    for prefix in ("execution reverted: ", "VM Exception while processing transaction: revert "):
        if error.message.startswith(prefix):
            return error.message[len(prefix) :]
    return error.message
