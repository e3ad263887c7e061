"""The `namespaces` section and the deprecated `org` and `node` beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from photinus_core.app.config.settings import PluginSettings
from photinus_core.app.config.tree import Node, is_number
from photinus_core.app.config.webhooks import read_tls_sets, read_webhooks
from photinus_core.events.subscriptions import (
    BATCH_TIMEOUT_MS_MAX,
    READ_AHEAD_MAX,
    SCAN_LENGTH_MAX,
    SUBSCRIPTION_DEFAULTS,
    SubscriptionSettings,
)
from photinus_core.events.webhook_options import WebhookSettings
from photinus_core.messaging.sender import BatchLimits
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.ids import Namespace
from photinus_core.model.names import RESERVED_NAMESPACE, check_name
from photinus_core.model.query import DEFAULT_LIMITS, QueryLimits
from photinus_core.namespaces.charts import ROWS_MAX
from photinus_core.namespaces.settings import (
    ContractSettings,
    MultipartySettings,
    NamespaceSettings,
    PluginRef,
    StartRetry,
)

DEFAULT_NAMESPACE: Final = "default"
CHART_ROWS_MAX: Final = 100_000
"""Most rows that may be counted for one bucket of a chart: it is read for every view of it."""

SEVERAL: Final = ("auth", "tokens")
"""Categories of which a namespace may have more than one plugin."""


def read_namespaces(
    root: Node, plugins: Sequence[PluginSettings]
) -> tuple[tuple[NamespaceSettings, ...], Namespace]:
    """Reads all namespaces and the name of the default one."""
    section = root.section("namespaces")
    shared = _Shared(
        _batch(root),
        _queries(root),
        root.section("histograms").integer("maxChartRows", ROWS_MAX, 1, CHART_ROWS_MAX),
        _subscriptions(root),
        _start_retry(section),
        read_webhooks(root),
    )
    old_org, old_node = root.section("org"), root.section("node")
    made: dict[str, NamespaceSettings] = {}
    places: dict[str, Node] = {}
    for entry in section.list("predefined"):
        namespace = _Entry(entry, plugins, old_org, old_node).read(shared)
        if namespace is None:
            continue
        if namespace.name in made:
            entry.report.add(entry, Rejected("FF19302", namespace.name))
        made[namespace.name], places[namespace.name] = namespace, entry
    default = section.text("default", DEFAULT_NAMESPACE)
    if default not in made:
        section.report.add(section, Rejected("FF10166", default))
    section.check_unknown()
    _warn_of_shared_contracts(tuple(made.values()), places)
    return tuple(made.values()), Namespace(default)


def _start_retry(section: Node) -> StartRetry:
    retry, defaults = section.section("retry"), StartRetry()
    made = StartRetry(
        retry.duration_s("initDelay", defaults.initial_s),
        retry.duration_s("maxDelay", defaults.maximum_s),
    )
    retry.without_effect(("factor",), "has no effect: pauses double")
    retry.check_unknown()
    return made


def _warn_of_shared_contracts(
    namespaces: Sequence[NamespaceSettings], places: Mapping[str, Node]
) -> None:
    """A version 2 contract does not say which network an event is of: each would read all as its own."""
    seen: dict[tuple[str, str], NamespaceSettings] = {}
    for namespace in namespaces:
        if namespace.multiparty is None or namespace.blockchain is None:
            continue
        for contract in namespace.multiparty.contracts:
            place = (namespace.blockchain.name, contract.location.lower())
            other = seen.setdefault(place, namespace)
            if other is namespace or other.network_name == namespace.network_name:
                continue
            found = places[namespace.name]
            found.report.warn(
                found,
                f"uses the contract of '{other.name}', which is of another network: a contract of"
                " version 2 takes one network only, and each would find the other's batches in it",
            )


def _queries(root: Node) -> QueryLimits:
    api = root.section("api")
    limit_max = api.integer("maxFilterLimit", DEFAULT_LIMITS.limit_max, 1, 1_000_000)
    usual = min(DEFAULT_LIMITS.default_limit, limit_max)
    default = api.integer("defaultFilterLimit", usual, 1, limit_max)
    # FireFly has one key for both; it stays the default.
    skip_max = api.integer("maxFilterSkip", limit_max, 0, 1_000_000_000)
    return QueryLimits(default, limit_max, skip_max)


def _subscriptions(root: Node) -> SubscriptionSettings:
    section, usual = root.section("subscription"), SUBSCRIPTION_DEFAULTS
    batches = section.section("defaults")
    timeout_s = batches.duration_s("batchTimeout", usual.batch_timeout_ms / 1e3)
    return SubscriptionSettings(
        subscriptions_max=section.integer("max", usual.subscriptions_max, 0, 100_000),
        batch_size=batches.integer("batchSize", usual.batch_size, 1, READ_AHEAD_MAX),
        batch_timeout_ms=min(round(timeout_s * 1e3), BATCH_TIMEOUT_MS_MAX),
        scan_max=section.section("events").integer(
            "maxScanLength", usual.scan_max, 1, SCAN_LENGTH_MAX
        ),
    )


def _batch(root: Node) -> BatchLimits:
    broadcast = root.section("broadcast").section("batch")
    private = root.section("privatemessaging").section("batch")
    defaults = BatchLimits()
    return BatchLimits(
        broadcast_bytes_max=broadcast.size_bytes("payloadLimit", defaults.broadcast_bytes_max),
        private_bytes_max=private.size_bytes("payloadLimit", defaults.private_bytes_max),
        broadcast_messages_max=broadcast.integer("size", defaults.broadcast_messages_max, 1, 1_000),
        private_messages_max=private.integer("size", defaults.private_messages_max, 1, 1_000),
        broadcast_collect_max_ns=_collect_max_ns(broadcast, defaults.broadcast_collect_max_ns),
        private_collect_max_ns=_collect_max_ns(private, defaults.private_collect_max_ns),
    )


def _collect_max_ns(batch: Node, default: int) -> int:
    return round(batch.duration_s("timeout", default / 1e9) * 1e9)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all namespaces have in common."""

    batch: BatchLimits
    queries: QueryLimits
    chart_rows_max: int
    subscriptions: SubscriptionSettings
    start_retry: StartRetry
    webhooks: WebhookSettings


class _Entry:
    """Reads one entry of `namespaces.predefined`."""

    def __init__(
        self, entry: Node, plugins: Sequence[PluginSettings], old_org: Node, old_node: Node
    ) -> None:
        self._entry = entry
        self._plugins = plugins
        self._old_org = old_org
        self._old_node = old_node

    def read(self, shared: _Shared) -> NamespaceSettings | None:
        """Gives the settings, or None when they make no sense at all.

        Problems are in the report.
        """
        entry = self._entry
        name = entry.text("name")
        self._check_name(name, "name")
        multiparty = self._multiparty(name)
        chosen = self._chosen(name, multiparty is not None)
        entry.without_effect(
            ("remoteName",), "has no effect: multiparty.networkNamespace names the network"
        )
        manager = entry.section("asset").section("manager")
        manager.without_effect(
            ("keyNormalization",),
            "has no effect: the blockchain connector brings every key into its form",
        )
        manager.check_unknown()
        entry.section("asset").check_unknown()
        settings = NamespaceSettings(
            name=Namespace(name),
            description=entry.text("description"),
            default_key=entry.text("defaultKey"),
            multiparty=multiparty,
            database=chosen.get("database", [PluginRef("", "")])[0],
            blockchain=_first(chosen, "blockchain"),
            data_exchange=_first(chosen, "dataexchange"),
            shared_storage=_first(chosen, "sharedstorage"),
            tokens=tuple(chosen.get("tokens", ())),
            batch=shared.batch,
            queries=shared.queries,
            chart_rows_max=shared.chart_rows_max,
            subscriptions=shared.subscriptions,
            start_retry=shared.start_retry,
            webhooks=replace(shared.webhooks, tls_sets=read_tls_sets(entry)),
        )
        entry.check_unknown()
        return settings if name else None

    def _check_name(self, name: str, key: str) -> None:
        place = self._entry.get(key) or self._entry
        if name == RESERVED_NAMESPACE:
            place.report.add(place, Rejected("FF10388", RESERVED_NAMESPACE))
            return
        try:
            check_name(name, key)
        except PhotinusError as failure:
            place.report.add(
                place, Rejected("FF19305", f"namespaces.predefined[].{key}", str(failure))
            )

    def _multiparty(self, name: str) -> MultipartySettings | None:
        section = self._entry.section("multiparty")
        org, node = section.section("org"), section.section("node")
        org_name = org.text("name") or self._old_org.text("name")
        org_key = org.text("key") or self._old_org.text("key")
        enabled = section.boolean("enabled", default=bool(org_name or org_key))
        made = MultipartySettings(
            network_namespace=section.text("networkNamespace", name),
            org_name=org_name,
            org_key=org_key,
            node_name=node.text("name") or self._old_node.text("name"),
            contracts=tuple(self._contract(c) for c in section.list("contract")),
            org_description=org.text("description") or self._old_org.text("description"),
            node_description=node.text("description") or self._old_node.text("description"),
        )
        for part in (org, node, section):
            part.check_unknown()
        if not enabled:
            return None
        self._check_multiparty(section, made)
        return made

    def _check_multiparty(self, section: Node, made: MultipartySettings) -> None:
        org, node = section.section("org"), section.section("node")
        network = section.get("networkNamespace") or section
        if made.network_namespace == RESERVED_NAMESPACE:
            network.report.add(network, Rejected("FF10388", RESERVED_NAMESPACE))
        for key, value, place in (
            ("org.name", made.org_name, org.get("name") or org),
            ("node.name", made.node_name, node.get("name") or node),
            ("networkNamespace", made.network_namespace, network),
        ):
            if not value:
                place.report.add(place, Rejected("FF19305", f"multiparty.{key}", "is required"))
                continue
            try:
                check_name(value, key)
            except PhotinusError as failure:
                place.report.add(place, Rejected("FF19305", f"multiparty.{key}", str(failure)))
        if made.contracts and made.contracts[0].first_event == "newest":
            # What is left out at the start is missing from every later decision (hard case 11).
            section.report.add(section, Rejected("FF19306", made.network_namespace))
        if not made.contracts:
            section.report.add(
                section, Rejected("FF19305", "multiparty.contract", "needs at least one entry")
            )

    @staticmethod
    def _contract(entry: Node) -> ContractSettings:
        location = entry.section("location")
        if not location.members:
            entry.report.add(
                entry, Rejected("FF19305", "multiparty.contract[].location", "is required")
            )
        first = entry.text("firstEvent", "oldest")
        if first not in ("oldest", "newest") and not is_number(first):
            place = entry.get("firstEvent") or entry
            place.report.add(
                place,
                Rejected(
                    "FF19305", "firstEvent", f"'{first}' is not oldest, newest or a block number"
                ),
            )
        options = entry.section("options")
        made = ContractSettings(location.json(), first, options.json() if options.members else "")
        entry.check_unknown()
        return made

    def _chosen(self, name: str, multiparty: bool) -> dict[str, list[PluginRef]]:
        chosen: dict[str, list[PluginRef]] = {}
        for plugin in self._named_plugins(name):
            chosen.setdefault(plugin.category, []).append(PluginRef(plugin.name, plugin.type))
        place = self._entry
        for category, found in chosen.items():
            if len(found) > 1 and category not in SEVERAL:
                place.report.add(place, Rejected("FF10394", name, category))
        if "database" not in chosen:
            place.report.add(place, Rejected("FF10392", name))
        elif multiparty and any(
            c not in chosen for c in ("blockchain", "dataexchange", "sharedstorage")
        ):
            place.report.add(place, Rejected("FF10391", name))
        if not multiparty:
            for category in ("dataexchange", "sharedstorage"):
                if category in chosen:
                    place.report.add(place, Rejected("FF19303", name, category))
        return chosen

    def _named_plugins(self, name: str) -> list[PluginSettings]:
        if self._entry.get("plugins") is None:
            return list(self._plugins)
        found: list[PluginSettings] = []
        for item in self._entry.list("plugins"):
            wanted = item.scalar or ""
            plugin = next((p for p in self._plugins if p.name == wanted), None)
            if plugin is None:
                item.report.add(item, Rejected("FF10390", name, wanted))
            else:
                found.append(plugin)
        return found


def _first(chosen: dict[str, list[PluginRef]], category: str) -> PluginRef | None:
    found = chosen.get(category)
    return found[0] if found else None
