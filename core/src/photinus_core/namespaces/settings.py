"""What the configuration says of a namespace, checked and typed.

Reading it from YAML is `app.config`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass

from photinus_core.events.subscriptions import SUBSCRIPTION_DEFAULTS, SubscriptionSettings
from photinus_core.events.webhook_options import WEBHOOK_DEFAULTS, WebhookSettings
from photinus_core.messaging.sender import BatchLimits
from photinus_core.model.ids import Namespace
from photinus_core.model.query import DEFAULT_LIMITS, QueryLimits
from photinus_core.namespaces.charts import ROWS_MAX


@dataclass(frozen=True, slots=True)
class StartRetry:
    """Pauses between attempts to start a namespace, in seconds (`namespaces.retry`).

    The first is short: at start-up a namespace often only waits for its connectors.
    """

    initial_s: float = 0.25
    maximum_s: float = 60.0


@dataclass(frozen=True, slots=True)
class PluginRef:
    """One plugin of a namespace: its name and type in the configuration."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class ContractSettings:
    """One entry of `multiparty.contract[]`."""

    location: str
    """JSON object text."""
    first_event: str = "oldest"
    options: str = ""
    """JSON object text for the ledger's connector, which alone knows what it means."""


@dataclass(frozen=True, slots=True)
class MultipartySettings:
    """The multiparty side of a namespace."""

    network_namespace: str
    org_name: str
    org_key: str
    node_name: str
    contracts: tuple[ContractSettings, ...]
    org_description: str = ""
    node_description: str = ""


@dataclass(frozen=True, slots=True)
class NamespaceSettings:
    """One namespace as configured."""

    name: Namespace
    description: str = ""
    default_key: str = ""
    multiparty: MultipartySettings | None = None
    """None for a gateway namespace."""
    database: PluginRef = PluginRef("database0", "sqlite3")
    blockchain: PluginRef | None = None
    data_exchange: PluginRef | None = None
    shared_storage: PluginRef | None = None
    tokens: tuple[PluginRef, ...] = ()
    batch: BatchLimits = BatchLimits()
    queries: QueryLimits = DEFAULT_LIMITS
    chart_rows_max: int = ROWS_MAX
    subscriptions: SubscriptionSettings = SUBSCRIPTION_DEFAULTS
    webhooks: WebhookSettings = WEBHOOK_DEFAULTS
    start_retry: StartRetry = StartRetry()

    @property
    def network_name(self) -> str:
        """Name on the wire."""
        return self.multiparty.network_namespace if self.multiparty else self.name

    @property
    def plugin_names(self) -> frozenset[str]:
        """Names of all its plugins."""
        refs = (self.database, self.blockchain, self.data_exchange, self.shared_storage)
        return frozenset(ref.name for ref in (*refs, *self.tokens) if ref is not None)
