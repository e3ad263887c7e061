"""FireFly's configuration reference, key by key: none is silently ignored.

Method: each key is given with a value that is not the default, in a configuration that is otherwise
fine; then it must have changed the settings, or be named in a warning, or be refused. The list is
written out here from the reference, not made from our own table, which is held against it.
"""

from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from photinus_core.app.config import ConfigError, NodeSettings, load_text
from photinus_core.app.config.known import Effect, entries

from scripts.configuration_reference import PAGE, page
from tests.unit.app.test_config_files import SEED

HTTP_SERVER = (
    "address:1.2.3.4 port:7777 publicURL:http://a readTimeout:7s writeTimeout:7s shutdownTimeout:7s "
    "tls.enabled:true"
)
RETRY = "initDelay:7s maxDelay:70s factor:3"
OTHER_RETRY = "initialDelay:7s maxDelay:70s factor:3"
WORKER = "count:7 batchTimeout:7s batchMaxInserts:7"
BATCH = "size:7 payloadLimit:7Kb timeout:7s agentTimeout:7s"
LIMITED = (
    "addressresolver batch blockchain blockchainevent eventlistenertopic group identity methods "
    "operations tokenpool"
)
HTTP_CLIENT = (
    "url:http://a headers.x:y auth.username:a auth.password:b proxy.url:http://p requestTimeout:7s "
    "connectionTimeout:7s idleTimeout:7s expectContinueTimeout:7s tlsHandshakeTimeout:7s maxIdleConns:7 "
    "maxIdleConnsPerHost:7 maxConnsPerHost:7 passthroughHeadersEnabled:true retry.enabled:true retry.count:7 "
    "retry.initWaitTime:7s retry.maxWaitTime:70s retry.factor:3 retry.errorStatusCodeRegex:5.. "
    "throttle.requestsPerSecond:7 throttle.burst:7"
)
TLS_CLIENT = "enabled:true ca:x caFile:x insecureSkipHostVerify:true clientAuth:true requiredDNAttributes.cn:x"

REFERENCE = {
    # 5.1 Server, API, runtime
    "http": f"{HTTP_SERVER} auth.type:basic auth.basic.passwordfile:absent",
    "spi": f"{HTTP_SERVER} enabled:true auth.type:basic auth.basic.passwordfile:absent ws.eventQueueLength:7 "
    "ws.blockedWarnInterval:7s ws.readBufferSize:7Kb ws.writeBufferSize:7Kb",
    "admin": "enabled:true",
    "monitoring": f"{HTTP_SERVER} enabled:true metricsPath:/m auth.type:basic",
    "metrics": f"{HTTP_SERVER} enabled:true path:/m auth.type:basic",
    "api": "defaultFilterLimit:7 maxFilterLimit:77 requestTimeout:7s requestMaxTimeout:7s "
    "dynamicPublicURLHeader:x passthroughHeaders:[x] oas.panicOnMissingDescription:true",
    "cors": "enabled:false origins:[x] headers:[x] methods:[GET] credentials:false maxAge:7 debug:true",
    "ui": "enabled:false path:/ui",
    "log": "level:debug timeFormat:x utc:true filename:x filesize:7m maxBackups:7 maxAge:7h compress:true "
    "noColor:true forceColor:true includeCodeInfo:true json.enabled:true json.fields.timestamp:x",
    "debug": "address:1.2.3.4 port:7777",
    "config": "autoReload:true",
    "orchestrator": "startupAttempts:7",
    "histograms": "maxChartRows:7",
    "asset.manager": "keyNormalization:none",
    "node": "name:n description:d",
    "org": "name:n description:d key:k",
    # 5.2 Engine tuning
    "batch.manager": "readPageSize:7 pollTimeout:7s minimumPollDelay:7s",
    "batch.retry": RETRY,
    "privatemessaging.retry": RETRY,
    "event.aggregator.retry": RETRY,
    "event.dispatcher.retry": RETRY,
    "subscription.retry": RETRY,
    "namespaces.retry": RETRY,
    "blobreceiver.retry": OTHER_RETRY,
    "opupdate.retry": OTHER_RETRY,
    "download.retry": f"{OTHER_RETRY} maxAttempts:7",
    "broadcast.batch": BATCH,
    "privatemessaging.batch": BATCH,
    "message.writer": WORKER,
    "transaction.writer": "count:7 batchTimeout:7s batchMaxTransactions:7",
    "opupdate.worker": f"{WORKER} queueLength:7",
    "blobreceiver.worker": WORKER,
    "download.worker": "count:7 queueLength:7",
    "event.aggregator": "firstEvent:newest batchSize:7 batchTimeout:7s pollTimeout:7s rewindTimeout:7s "
    "rewindQueueLength:7 rewindQueryLimit:7",
    "event.dispatcher": "bufferLength:7 batchTimeout:7s pollTimeout:7s",
    "event.transports": "enabled:[webhooks] default:webhooks",
    "event.dbevents": "bufferSize:7",
    "events.websockets": "readBufferSize:7Kb writeBufferSize:7Kb",
    "events.webhooks": HTTP_CLIENT,
    "events.webhooks.tls": TLS_CLIENT,
    "subscription": "max:7 defaults.batchSize:7 defaults.batchTimeout:7s events.maxScanLength:7",
    "cache": "enabled:false message.size:7Mb message.ttl:7m transaction.size:7Mb transaction.ttl:7m "
    "validator.size:7Mb validator.ttl:7m "
    + " ".join(f"{name}.limit:7 {name}.ttl:7m" for name in LIMITED.split()),
    # 5.3 Plugins
    "plugins.database.0.sqlite3": "url:x maxConns:7 maxConnIdleTime:7m maxIdleConns:7 maxConnLifetime:7m "
    "migrations.auto:false migrations.directory:x",
    "plugins.blockchain.0.ethereum.ethconnect": "url:http://x topic:x batchSize:7 batchTimeout:7 prefixShort:x "
    "prefixLong:x backgroundStart.enabled:true instance:x fromBlock:7 ws.heartbeatInterval:7s",
    "plugins.blockchain.0.ethereum": "fftm.url:http://x addressResolver.urlTemplate:x",
    "plugins.dataexchange.0.ffdx": "url:x manifestEnabled:true initEnabled:true backgroundStart.enabled:true "
    "eventRetry.initialDelay:7s",
    "plugins.sharedstorage.0.ipfs": "api.url:x gateway.url:x",
    "plugins.tokens.0": "name:x type:x broadcastName:x fftokens.url:x fftokens.backgroundStart.enabled:true",
    "plugins.auth.0": "name:x type:x",
    # 5.4 Namespaces
    "namespaces": "default:omega",
    "namespaces.predefined.0": "name:x description:x defaultKey:x plugins:[database0] "
    "asset.manager.keyNormalization:none multiparty.enabled:false multiparty.networkNamespace:x "
    "multiparty.org.name:x multiparty.org.description:x multiparty.org.key:x multiparty.node.name:x "
    "multiparty.node.description:x tlsConfigs.0.name:x tlsConfigs.0.tls.caFile:x",
    "namespaces.predefined.0.multiparty.contract.0": "location.address:0x1 firstEvent:7 options.x:y",
}

POSTGRES = (
    "maxConns:7 maxConnIdleTime:7m maxIdleConns:7 maxConnLifetime:7m migrations.auto:false "
    "migrations.directory:x"
)


def _cases() -> list[tuple[str, str]]:
    return [
        (f"{section}.{key}", value)
        for section, keys in REFERENCE.items()
        for key, _, value in (word.partition(":") for word in keys.split())
    ]


CASES = _cases()
_SEED: dict[str, Any] = yaml.load(SEED, yaml.BaseLoader)


def base() -> dict[str, Any]:
    """The seed's example as a tree of texts."""
    return deepcopy(_SEED)


def put(tree: Any, path: str, value: str) -> None:
    *way, last = path.split(".")
    for key in way:
        if key == "0" and isinstance(tree, list):
            if not tree:
                tree.append({})
            tree = tree[0]
            continue
        following = way[way.index(key) + 1 : way.index(key) + 2]
        tree = tree.setdefault(key, [] if following == ["0"] else {})
    tree[last] = value[1:-1].split(",") if value.startswith("[") else value


def loaded(tree: Any) -> NodeSettings:
    return load_text(yaml.safe_dump(tree), "f.yaml", {})


def without_warnings(settings: NodeSettings) -> NodeSettings:
    return replace(settings, warnings=())


REFUSED_ELSEWHERE = {
    "http.auth.type",
    "spi.auth.type",
    "plugins.auth.0.name",
    "plugins.auth.0.type",
    "plugins.tokens.0.name",
}
"""Keys that something else needs, where their refusal is told."""


@cache
def unchanged() -> NodeSettings:
    return loaded(base())


@cache
def outcome(path: str, value: str) -> str:
    """What becomes of a key: `changed`, `warned`, `refused`, or nothing at all."""
    tree = base()
    if path.startswith(("org.", "node.")):
        # They count where a namespace has no own.
        alpha, omega = tree["namespaces"]["predefined"]
        alpha["multiparty"] |= {"org": {}, "node": {}}
        omega["multiparty"] = {"enabled": "false"}
        tree |= {"org": {"name": "o", "key": "0x1"}, "node": {"name": "n0"}}
    if path == "events.webhooks.tls.enabled":
        put(tree, "events.webhooks.tls.caFile", "x")
        value = "false"
    before = unchanged() if tree == base() else loaded(tree)
    put(tree, path, value)
    try:
        after = loaded(tree)
    except ConfigError as failure:
        places = [problem.path.lower() for problem in failure.problems]
        is_told = path in REFUSED_ELSEWHERE or any(_is_about(each, path) for each in places)
        return "refused" if is_told else f"something else is: {failure}"
    known = {warning.path for warning in before.warnings}
    if any(_is_about(w.path.lower(), path) for w in after.warnings if w.path not in known):
        return "warned"
    return "changed" if without_warnings(before) != without_warnings(after) else ""


def _is_about(place: str, path: str) -> bool:
    key = path.replace(".0", "[0]").lower()
    return key == place or key.startswith((f"{place}.", f"{place}[")) or place.startswith(key)


@pytest.mark.parametrize(("path", "value"), CASES, ids=[path for path, _ in CASES])
def test_no_key_of_firefly_is_silently_ignored(path: str, value: str) -> None:
    assert outcome(path, value) in ("changed", "warned", "refused")


@pytest.mark.parametrize(("key", "value"), [word.split(":") for word in POSTGRES.split()])
def test_no_key_of_a_postgres_database_is_ignored(key: str, value: str) -> None:
    tree = base()
    (database,) = tree["plugins"]["database"]
    database["type"] = "postgres"
    database["postgres"] = {"url": "postgres://h/d"}
    del database["sqlite3"]
    before = loaded(tree)
    put(database["postgres"], key, value)
    after = loaded(tree)
    said = [warning.path for warning in after.warnings]
    assert said == [f"plugins.database[0].postgres.{key}"] or after != before


OWN_DEFAULTS = {
    "broadcast.batch.timeout",
    "privatemessaging.batch.timeout",
    "metrics.enabled",
    "namespaces.retry.initDelay",
}
"""Keys with FireFly's meaning and a default of ours; the table says which."""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (entry.path, entry.default)
        for entry in entries()
        if entry.default and entry.group.effect is Effect.AS_FIREFLY and "[" not in entry.path
    ],
)
def test_defaults_are_fireflys(path: str, value: str) -> None:
    """A key that is given with FireFly's default says nothing new."""
    tree = base()
    put(tree, path, value) if path != "namespaces.default" else None
    if path not in OWN_DEFAULTS:
        assert loaded(tree) == unchanged()
    else:
        assert loaded(tree) != unchanged()


def test_the_table_says_what_becomes_of_a_key() -> None:
    """Keys with FireFly's meaning change something, those without effect are warned about."""
    effects = {e.path.lower().replace("[]", ".0"): e.group.effect for e in entries()}
    expected = {
        Effect.AS_FIREFLY: {"changed", "refused"},  # refused: a file that is not there
        Effect.GATEWAY: {"warned"},
        Effect.NONE: {"warned"},
        Effect.REFUSED: {"refused"},
    }
    checked = 0
    for path, value in CASES:
        effect = effects.get(path.lower())
        if effect is not None:
            assert outcome(path, value) in expected[effect], path
            checked += 1
    assert checked > 150


def test_the_page_of_all_keys_is_current() -> None:
    assert Path(PAGE).read_text() == page(), "run: python -m scripts.configuration_reference"


@pytest.mark.parametrize(
    "path",
    [
        "broadcast.batch.sizes",
        "cache.message.limit",
        "http.adress",
        "event.polltimeout",
        "ui.color",
    ],
)
def test_keys_that_nobody_knows_are_refused(path: str) -> None:
    tree = base()
    put(tree, path, "1")
    with pytest.raises(ConfigError, match="FF19304"):
        loaded(tree)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("batch.manager.pollTimeout", "soon"),
        ("events.websockets.readBufferSize", "much"),
        ("cache.enabled", "perhaps"),
        ("event.transports.enabled", "webhooks"),
    ],
)
def test_values_without_effect_are_still_of_their_kind(path: str, value: str) -> None:
    tree = base()
    put(tree, path, value)
    with pytest.raises(ConfigError, match="FF19305"):
        loaded(tree)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h2m3s", 3723.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("2.s", 2.0),
        ("100ms", 0.1),
        ("10µs", 1e-5),
        ("10μs", 1e-5),
        ("10us", 1e-5),
        ("5000000ns", 0.005),
        ("250", 0.25),
        ("0", 0.0),
    ],
)
def test_durations_are_spelled_as_in_go(text: str, seconds: float) -> None:
    tree = base()
    put(tree, "namespaces.retry.initDelay", text)
    assert loaded(tree).namespaces[0].start_retry.initial_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("800Kb", 800 << 10), ("1Mb", 1 << 20), ("1m", 1 << 20), ("1.5k", 1536), ("12345", 12345)],
)
def test_sizes_are_spelled_as_fireflys(text: str, size: int) -> None:
    tree = base()
    put(tree, "broadcast.batch.payloadLimit", text)
    assert loaded(tree).namespaces[0].batch.broadcast_bytes_max == size


@pytest.mark.parametrize(("path", "value"), CASES[::7], ids=[path for path, _ in CASES[::7]])
def test_environment_names_say_the_same_as_the_file(path: str, value: str) -> None:
    """`FIREFLY_` and the path in capitals; lists are given in files only."""
    if value.startswith("["):
        return
    if ".ethereum." in path:
        path = path.lower()  # the connector's own, found in any case when its schema types them
    tree, name = base(), f"FIREFLY_{path.upper().replace('.', '_')}"
    results: list[tuple[NodeSettings | None, list[str]]] = []
    for text, environment in (
        (yaml.safe_dump(_with(path, value)), {}),
        (yaml.safe_dump(tree), {name: value}),
    ):
        try:
            settings = load_text(text, "f.yaml", environment)
            results.append(
                (without_warnings(settings), sorted(w.path.lower() for w in settings.warnings))
            )
        except ConfigError as failure:
            results.append((None, sorted(p.path.lower() for p in failure.problems)))
    assert results[0] == results[1]


def _with(path: str, value: str) -> Any:
    tree = base()
    put(tree, path, value)
    return tree


def test_networks_that_share_a_contract_are_warned_about() -> None:
    """A contract of version 2 takes one network; two members of one network may use it together."""
    tree = base()
    alpha, omega = tree["namespaces"]["predefined"]
    omega["plugins"] = alpha["plugins"]
    omega["multiparty"] = yaml.safe_load(yaml.safe_dump(alpha["multiparty"]))
    omega["multiparty"]["contract"] = [
        {"location": {"address": "0x4AE50189462b0e5d52285f59929d037f790771a6"}}
    ]
    omega["multiparty"]["networkNamespace"] = "omega"
    (warning,) = loaded(tree).warnings
    assert "the contract of 'alpha'" in warning.text
    assert warning.path == "namespaces.predefined[1]"
    omega["multiparty"]["networkNamespace"] = "alpha"
    assert loaded(tree).warnings == ()
    omega["multiparty"]["networkNamespace"] = "omega"
    omega["multiparty"]["contract"] = [{"location": {"address": "0x1"}}]
    assert loaded(tree).warnings == ()
