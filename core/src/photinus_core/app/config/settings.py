"""A node's configuration, typed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from photinus_core.access.settings import AccessSettings
from photinus_core.app.config.tree import Plain, Problem
from photinus_core.cluster import EnsembleSettings
from photinus_core.cluster.zookeeper import QUIET_S
from photinus_core.events.changes import ChangeLimits
from photinus_core.host import TlsFiles, WhenAway
from photinus_core.model.ids import Namespace
from photinus_core.namespaces.settings import NamespaceSettings
from photinus_core.rpc.tls import TlsFiles as ServerTlsFiles
from photinus_core.sequencing.connector_life import LifeLimits
from photinus_core.store import PostgresSettings


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """How a connector is reached; exactly one of address, launch and discover is given.

    Attributes:
        address: `unix:<path>`, `dns:///host:port` or `host:port`.
        launch: Command to start it with (development).
        discover: Names of its socket in the watched directory; the first that is there counts.
        instance: Instance to name there; the plugin's name when empty.
        insecure: Whether plain text is allowed (loopback only).
        tls: Files for mutual TLS.
        when_away: What becomes of submissions while it is away.
        limits: Heartbeat and restarts; None for the usual.
    """

    address: str = ""
    launch: tuple[str, ...] = ()
    discover: tuple[str, ...] = ()
    instance: str = ""
    insecure: bool = False
    tls: TlsFiles | None = None
    when_away: WhenAway = WhenAway.QUEUE
    limits: LifeLimits | None = None


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """Connectors that are found, not configured.

    Attributes:
        directory: Watched for sockets; empty for none.
    """

    directory: str = ""


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """One plugin.

    Attributes:
        category: `database`, `blockchain`, `dataexchange`, `sharedstorage`, `tokens`.
        connector: None when the configuration does not say how to reach it; its namespaces then
            show that.
        postgres: How a database of type `postgres` is reached; None for all others.
        config: What the connector is configured with; scalars are text until its schema types them.
        broadcast_name: What other members know a tokens plugin as.
    """

    name: str
    category: str
    type: str
    connector: ConnectorSettings | None = None
    config: Plain = None
    postgres: PostgresSettings | None = None
    broadcast_name: str = ""


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where the core serves its API over gRPC."""

    address: str = "127.0.0.1:5002"
    """`unix:<path>` or `host:port`."""
    tls: ServerTlsFiles | None = None


class LogFields(NamedTuple):
    """What the fields of a line in JSON are called."""

    timestamp: str = "@timestamp"
    level: str = "level"
    message: str = "message"
    func: str = "func"
    file: str = "file"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How the core logs.

    Attributes:
        filename: Where to; standard error when empty.
        file_bytes_max: A file that would grow beyond is put aside, and a new one begun.
        files_kept: How many of those put aside are kept.
        file_age_max_s: Those put aside longer ago are removed when the next one is; 0 for never.
        compress: Whether they are compressed (gzip).
        time_format: Go's layout of times; empty for ISO 8601 with milliseconds.
        utc: Whether times are UTC instead of local.
        code_info: Whether lines name the function and the place that wrote them.
    """

    level: str = "info"
    json: bool = False
    fields: LogFields = LogFields()
    filename: str = ""
    file_bytes_max: int = 100 * 1024 * 1024
    files_kept: int = 2
    file_age_max_s: float = 24 * 3600.0
    compress: bool = False
    time_format: str = ""
    utc: bool = False
    code_info: bool = False


@dataclass(frozen=True, slots=True)
class MonitoringSettings:
    """Where numbers and probes are served over HTTP, without authentication.

    Attributes:
        enabled: Whether anything is listened on, and counted.
        address, port: Where; port 0 takes a free one.
        metrics_path: Path of the Prometheus series.
        certificate_file, key_file: PEM; with them TLS is spoken.
        client_ca_file: Who must have signed the certificates of those who ask; empty to ask for none.
    """

    enabled: bool = False
    address: str = "127.0.0.1"
    port: int = 6000
    metrics_path: str = "/metrics"
    certificate_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Where spans go. What is not given is OpenTelemetry's own environment's to say.

    Attributes:
        enabled: None leaves it to the environment (`OTEL_EXPORTER_OTLP_ENDPOINT` and the like).
        endpoint: Base URL of the collector (OTLP over HTTP); empty for the environment's.
        sample_ratio: Part of the traces that begin here and are recorded; None for the
            environment's sampler.
        service_name: Name of this service in spans; empty for the environment's, else `photinus-core`.
    """

    enabled: bool | None = None
    endpoint: str = ""
    sample_ratio: float | None = None
    service_name: str = ""

    def is_wanted(self, environment: Mapping[str, str]) -> bool:
        """Whether spans are to be recorded: as configured, else as the environment has it."""
        if self.enabled is not None:
            return self.enabled
        if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return False
        exporter = environment.get("OTEL_TRACES_EXPORTER", "")
        if exporter:
            return exporter == "otlp"
        names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        return bool(self.endpoint) or any(environment.get(name) for name in names)


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """How replicas of this core find each other.

    Attributes:
        replica: Name of this replica, the same after each restart; made of its host's name when empty.
        address: Where others reach its gRPC endpoint; the one it listens on when empty.
        ensemble: How ZooKeeper is reached; None for one replica alone.
        hand_over_after_s: How long all must be quiet before a replica that is preferred takes a role over.
    """

    replica: str = ""
    address: str = ""
    ensemble: EnsembleSettings | None = None
    hand_over_after_s: float = QUIET_S


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Everything the core needs to start."""

    namespaces: tuple[NamespaceSettings, ...]
    default_namespace: Namespace
    plugins: tuple[PluginSettings, ...]
    listen: ListenSettings = field(default_factory=ListenSettings)
    log: LogSettings = field(default_factory=LogSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    connectors: DiscoverySettings = field(default_factory=DiscoverySettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    changes: ChangeLimits = field(default_factory=ChangeLimits)
    """What a listener to change events may cost."""
    auto_reload: bool = False
    """Whether changes of the file take effect while the node runs."""
    warnings: tuple[Problem, ...] = ()
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)

    def plugin(self, name: str) -> PluginSettings:
        """Finds a plugin by name."""
        return next(p for p in self.plugins if p.name == name)
