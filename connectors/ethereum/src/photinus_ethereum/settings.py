"""What an operator can set, with its checks. The kit makes the JSON Schema from these types."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, field
from photinus.connector.v1 import common_pb2 as common
from photinus_sdk.settings import Secret, Settings, finding

from photinus_ethereum.hexes import parse_address

CONFIRMATIONS_DEFAULT = 20
"""FireFly's default. All members of a network must set the same."""

Positive = Annotated[int, Meta(gt=0)]
NotNegative = Annotated[int, Meta(ge=0)]
Depth = Annotated[int, Meta(ge=0, le=1_000)]
Seconds = Annotated[float, Meta(gt=0)]


class RpcSettings(Settings, rename="camel"):
    """How the node is reached."""

    url: Annotated[str, Meta(description="HTTP URL of the node's JSON-RPC")]
    ws_url: Annotated[str, Meta(description="WebSocket URL for new heads; without it: polling")] = (
        ""
    )
    username: str = ""
    password: Secret | None = None
    timeout_s: Seconds = 30.0
    poll_s: Annotated[Seconds, Meta(description="time between looks at the head")] = 0.25
    batch_items_max: Positive = 100
    connections_max: Positive = 4


class KeySettings(Settings, rename="camel"):
    """One signing key: a raw development key, in the configuration or a file, or a keystore V3 file."""

    private_key: Annotated[
        Secret | None, Meta(description="64 hex digits; for development only")
    ] = None
    private_key_file: Path | None = None
    keystore: Path | None = None
    password: Secret | None = None
    password_file: Path | None = None


class FeesSettings(Settings, rename="camel"):
    """What is offered for gas. Amounts in wei, as decimal text where they exceed a JSON number."""

    mode: Literal["auto", "eip1559", "legacy"] = "auto"
    tip_wei: NotNegative | None = None
    gas_price_wei: Annotated[
        NotNegative | None, Meta(description="a fixed legacy price; 0 for chains without fees")
    ] = None
    max_fee_wei: Annotated[NotNegative | None, Meta(description="no offer exceeds this")] = None
    replace_after_s: Annotated[
        Seconds, Meta(description="a transaction not mined by then is sent again with higher fees")
    ] = 60.0


class GasLimitSettings(Settings, rename="camel"):
    """Gas limits: always the node's estimate times a factor."""

    factor: Annotated[float, Meta(ge=1.0, le=10.0)] = 1.5
    estimate_on: Literal["pending", "latest"] = "pending"


class EventSettings(Settings, rename="camel"):
    """How events are read."""

    page_blocks: Annotated[Positive, Meta(description="most blocks of one eth_getLogs")] = 500
    history_blocks: Annotated[
        Positive, Meta(description="depth to which told events can be taken back")
    ] = 64


class EthereumSettings(Settings, rename="camel"):
    """Configuration of one instance: one chain, and the keys this member signs with on it."""

    rpc: RpcSettings
    chain_id: Annotated[
        Positive | None,
        Meta(description="refuse a node of another chain; empty: take what it says"),
    ] = None
    confirmations: Annotated[
        Depth | None,
        Meta(description="blocks on top of an event or transaction that make it final"),
    ] = None
    keys: tuple[KeySettings, ...] = ()
    default_key: str = ""
    fees: FeesSettings = field(default_factory=FeesSettings)
    gas: GasLimitSettings = field(default_factory=GasLimitSettings)
    events: EventSettings = field(default_factory=EventSettings)
    in_flight_max: Annotated[
        Positive, Meta(description="most transactions of one signer under way")
    ] = 2_000

    @property
    def depth(self) -> int:
        """The confirmations in force."""
        return CONFIRMATIONS_DEFAULT if self.confirmations is None else self.confirmations


def check(settings: EthereumSettings) -> Iterator[common.Diagnostic]:
    """Findings that the types cannot express. Touches nothing."""
    yield from _check_url(settings.rpc.url, {"http", "https"}, "/rpc/url")
    if settings.rpc.ws_url:
        yield from _check_url(settings.rpc.ws_url, {"ws", "wss"}, "/rpc/wsUrl")
    for at, key in enumerate(settings.keys):
        sources = [key.private_key, key.private_key_file, key.keystore]
        if sum(source is not None for source in sources) != 1:
            yield finding(
                "Give exactly one of privateKey, privateKeyFile and keystore", f"/keys/{at}"
            )
        passwords = [key.password, key.password_file]
        wanted = 0 if key.keystore is None else 1
        if sum(source is not None for source in passwords) != wanted:
            yield finding(
                "A keystore needs one of password and passwordFile, other keys none", f"/keys/{at}"
            )
    if settings.default_key:
        try:
            parse_address(settings.default_key)
        except ValueError:
            yield finding("Not an address", "/defaultKey")
    if settings.confirmations is None:
        yield finding(
            f"confirmations is not set, so it is {CONFIRMATIONS_DEFAULT} as in FireFly; a development "
            "chain that mines only when there is work needs 0",
            "/confirmations",
            warning=True,
        )


def _check_url(url: str, schemes: set[str], pointer: str) -> Iterator[common.Diagnostic]:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        yield finding(f"Not a URL with {' or '.join(sorted(schemes))}", pointer)
