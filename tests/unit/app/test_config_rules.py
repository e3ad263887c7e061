"""Every restriction of a node's configuration gives its code at its line; a good one is read whole.

Method: a small valid file, and a table of one edit each with the code, the line (found by a marker
in the text) and a word of the message.
"""

import pytest
from photinus_core.app.config import ConfigError, NodeSettings, load_text
from photinus_core.sequencing.batching import COLLECT_MAX_NS

GOOD = """\
plugins:
  database:
  - name: database0
    type: sqlite3
    sqlite3:
      url: a.db
  blockchain:
  - name: blockchain0
    type: ethereum
  - name: blockchain1
    type: ethereum
  dataexchange:
  - name: dx0
    type: ffdx
  sharedstorage:
  - name: ss0
    type: ipfs
  tokens:
  - name: t0
    type: fftokens
  - name: t1
    type: fftokens
namespaces:
  default: alpha
  predefined:
  - name: alpha
    plugins: [database0, blockchain0, dx0, ss0, t0, t1]
    multiparty:
      enabled: true
      org:
        name: org0
        key: 0x123456
      node:
        name: node0
      contract:
      - location:
          address: 0xabc
        firstEvent: 0
  - name: omega
    plugins: [database0, blockchain1]
"""
ALPHA = "plugins: [database0, blockchain0, dx0, ss0, t0, t1]"
OMEGA = "plugins: [database0, blockchain1]"

# what is replaced, by what ("@" marks the line of the error), code, a word of the text
CASES = {
    "a name twice": ("- name: omega", "- name: alpha@", "FF19302", "alpha"),
    "no name": ("- name: omega\n    ", "- description: x@\n    ", "FF19305", "name"),
    "a bad name": ("- name: omega", "- name: _o@", "FF19305", "FF00140"),
    "the reserved name": ("- name: omega", "- name: ff_system@", "FF10388", "ff_system"),
    "the reserved network name": (
        "enabled: true",
        "enabled: true\n      networkNamespace: ff_system@",
        "FF10388",
        "ff_system",
    ),
    "a bad network name": (
        "enabled: true",
        "enabled: true\n      networkNamespace: a b@",
        "FF19305",
        "networkNamespace",
    ),
    "a first contract from its newest event": (
        "firstEvent: 0",
        "firstEvent: newest",
        "FF19306",
        "decides differently",
    ),
    "no database": (OMEGA, "plugins: [blockchain1]", "FF10392", "omega"),
    "multiparty without data exchange": (
        ALPHA,
        "plugins: [database0, blockchain0, ss0]",
        "FF10391",
        "alpha",
    ),
    "multiparty without blockchain": (
        ALPHA,
        "plugins: [database0, dx0, ss0]",
        "FF10391",
        "alpha",
    ),
    "multiparty without shared storage": (
        ALPHA,
        "plugins: [database0, blockchain0, dx0]",
        "FF10391",
        "alpha",
    ),
    "gateway with data exchange": (OMEGA, "plugins: [database0, dx0]", "FF19303", "dataexchange"),
    "gateway with shared storage": (OMEGA, "plugins: [database0, ss0]", "FF19303", "sharedstorage"),
    "gateway with all plugins": (OMEGA, "description: x", "FF19303", "dataexchange"),
    "two of a kind": (
        OMEGA,
        "plugins: [database0, blockchain0, blockchain1]",
        "FF10394",
        "blockchain",
    ),
    "one plugin twice": (OMEGA, "plugins: [database0, database0]", "FF10394", "database"),
    "an unknown plugin": (
        OMEGA,
        "plugins:\n    - database0\n    - nobody@",
        "FF10390",
        "nobody",
    ),
    "a plugin that is no name": (OMEGA, "plugins: [database0, [a]]@", "FF10390", "omega"),
    "plugins that are no list": (OMEGA, "plugins: database0@", "FF19305", "must be a list"),
    "a default that is not there": ("default: alpha", "default: beta", "FF10166", "beta"),
    "no org name": ("        name: org0\n", "", "FF19305", "multiparty.org.name"),
    "a bad org name": ("name: org0", "name: -org@", "FF19305", "multiparty.org.name"),
    "no node name": ("        name: node0", "        description: x@", "FF19305", "node.name"),
    "a bad node name": ("name: node0", "name: node 0@", "FF19305", "multiparty.node.name"),
    "no contract": (
        "      - location:\n          address: 0xabc\n        firstEvent: 0\n",
        "",
        "FF19305",
        "multiparty.contract",
    ),
    "a contract without location": (
        "- location:\n          address: 0xabc\n        firstEvent: 0",
        "- firstEvent: 0@",
        "FF19305",
        "location",
    ),
    "a contract that is text": (
        "- location:\n          address: 0xabc\n        firstEvent: 0",
        "- 0xabc@",
        "FF19305",
        "location",
    ),
    "a first event that is none": ("firstEvent: 0", "firstEvent: -1@", "FF19305", "firstEvent"),
    "a first event of odd digits": ("firstEvent: 0", "firstEvent: ²@", "FF19305", "firstEvent"),
    "an unknown key at the root": ("plugins:\n  d", "nonsense: 1@\nplugins:\n  d", "FF19304", "n"),
    "an unknown key in a namespace": (
        "- name: omega",
        "- name: omega\n    plugin: x@",
        "FF19304",
        "plugin",
    ),
    "an unknown key in multiparty": (
        "enabled: true",
        "enabled: true\n      organisation: x@",
        "FF19304",
        "organisation",
    ),
    "an unknown key in an org": ("key: 0x123456", "kay: 0x123456@", "FF19304", "kay"),
    "an unknown kind of plugin": (
        "  tokens:",
        "  events:@ []\n  tokens:",
        "FF19304",
        "plugins.events",
    ),
    "an unknown key of a plugin": (
        "type: ffdx",
        "type: ffdx\n    fddx: {}@",
        "FF19304",
        "fddx",
    ),
    "a key twice": ("default: alpha", "default: alpha\n  default: alpha@", "FF19305", "twice"),
    "a key twice in another case": (
        "default: alpha",
        "default: alpha\n  Default: omega@",
        "FF19305",
        "twice",
    ),
    "a key that is a list": (
        "default: alpha",
        "default: alpha\n  ? [a]\n  : b",
        "FF19305",
        "plain text",
    ),
    "a section that is text": (
        "      org:\n        name: org0\n        key: 0x123456\n",
        "      org: org0@\n",
        "FF19305",
        "must be a section",
    ),
    "a text that is a list": ("name: org0", "name: [org0]@", "FF19305", "must be one value"),
    "a truth that is none": ("enabled: true", "enabled: maybe@", "FF19305", "neither true"),
    "a plugin without type": ("    type: ffdx\n", "", "FF10386", "dataexchange"),
    "a plugin without name": ("- name: dx0\n    type", "- type", "FF10386", "dataexchange"),
    "a plugin with a bad name": ("- name: t1", "- name: t 1@", "FF19305", "name"),
    "a plugin name twice": ("- name: t1", "- name: dx0@", "FF10395", "dx0"),
    "an unknown database": ("type: sqlite3", "type: oracle", "FF10122", "oracle"),
    "a database without url": ("url: a.db", "migrations: {}", "FF19305", "sqlite3.url"),
    "an unknown blockchain": (
        "- name: blockchain1\n    type: ethereum",
        "- name: blockchain1@\n    type: corda",
        "FF10110",
        "corda",
    ),
    "an unknown data exchange": (
        "- name: dx0\n    type: ffdx",
        "- name: dx0@\n    type: sftp",
        "FF10213",
        "sftp",
    ),
    "an unknown shared storage": (
        "- name: ss0\n    type: ipfs",
        "- name: ss0@\n    type: s3",
        "FF10134",
        "s3",
    ),
    "unknown tokens": (
        "- name: t1\n    type: fftokens",
        "- name: t1@\n    type: coins",
        "FF10272",
        "coins",
    ),
    "a connector with address and launch": (
        "type: ffdx",
        "type: ffdx\n    connector: {address: 'unix:a', launch: [b]}@",
        "FF19305",
        "one of address, launch and discover",
    ),
    "a connector with neither": (
        "type: ffdx",
        "type: ffdx\n    connector: {insecure: true}@",
        "FF19305",
        "one of address, launch and discover",
    ),
    "a connector with another key": (
        "type: ffdx",
        "type: ffdx\n    connector: {address: 'unix:a', adress: b}@",
        "FF19304",
        "adress",
    ),
    "a command with an open quote": (
        "type: ffdx",
        "type: ffdx\n    connector:\n      launch: photinus-dx 'a@",
        "FF19305",
        "launch",
    ),
    "a command with a section in it": (
        "type: ffdx",
        "type: ffdx\n    connector:\n      launch: [photinus-dx, {a: b}]@",
        "FF19305",
        "launch",
    ),
    "a bad log level": ("plugins:\n  d", "log: {level: loud}@\nplugins:\n  d", "FF19305", "loud"),
}


def read(text: str, environment: dict[str, str] | None = None) -> NodeSettings:
    return load_text(text, "f.yaml", environment or {})


@pytest.mark.parametrize("case", CASES)
def test_a_restriction_names_its_code_and_line(case: str) -> None:
    old, new, code, word = CASES[case]
    assert old in GOOD
    marked = GOOD.replace(old, new, 1)
    lines = [n for n, line in enumerate(marked.splitlines(), 1) if "@" in line]
    with pytest.raises(ConfigError) as caught:
        read(marked.replace("@", ""))
    matching = [
        p for p in caught.value.problems if p.text.startswith(f"{code}: ") and word in p.text
    ]
    assert matching, caught.value
    assert {p.file for p in caught.value.problems} == {"f.yaml"}
    if lines:
        assert lines[0] in [p.line for p in matching], caught.value
    else:
        assert all(p.line > 0 for p in matching)
    assert caught.value.problems == sorted(caught.value.problems, key=lambda p: p.line)


def test_the_good_file_is_good() -> None:
    settings = read(GOOD)
    assert [n.name for n in settings.namespaces] == ["alpha", "omega"]
    assert settings.warnings == ()


def test_all_problems_are_told_at_once() -> None:
    broken = GOOD.replace("type: ffdx", "type: sftp").replace("default: alpha", "default: beta")
    with pytest.raises(ConfigError) as caught:
        read(broken.replace("key: 0x123456", "kay: 1"))
    codes = [p.text[:7] for p in caught.value.problems]
    assert codes == ["FF10213", "FF10166", "FF19304"]


# What stands at the root, key, code of the error (None: it is good)
VALUES = [
    ("api: {requestMaxTimeout: soon}", "FF19305"),
    ("api: {requestMaxTimeout: -5s}", "FF19305"),
    ("api: {requestMaxTimeout: -5}", "FF19305"),
    ("api: {requestMaxTimeout: .nan}", "FF19305"),
    ("api: {requestMaxTimeout: nan}", "FF19305"),
    ("api: {requestMaxTimeout: inf}", "FF19305"),
    (f"api: {{requestMaxTimeout: {'9' * 400}}}", "FF19305"),
    (f"api: {{requestMaxTimeout: {'9' * 400}s}}", "FF19305"),
    ("api: {requestMaxTimeout: 5s 3}", "FF19305"),
    ("api: {requestMaxTimeout: 5 parsecs}", "FF19305"),
    ("api: {maxFilterLimit: 0}", "FF19305"),
    ("api: {maxFilterLimit: many}", "FF19305"),
    ("api: {maxFilterSkip: -1}", "FF19305"),
    ("api: {maxFilterLimit: 10, defaultFilterLimit: 11}", "FF19305"),
    ("api: {passthroughHeaders: a}", "FF19305"),
    ("broadcast: {batch: {payloadLimit: large}}", "FF19305"),
    ("broadcast: {batch: {payloadLimit: -1}}", "FF19305"),
    (f"broadcast: {{batch: {{payloadLimit: {'9' * 400}}}}}", "FF19305"),
    ("broadcast: {batch: {size: 0}}", "FF19305"),
    ("broadcast: {batch: {size: 1.5}}", "FF19305"),
    ("subscription: {max: 100001}", "FF19305"),
    ("histograms: {maxChartRows: 0}", "FF19305"),
    ("histograms: {maxChartRows: 100001}", "FF19305"),
    ("histograms: {maxChartRows: many}", "FF19305"),
    ("namespaces: []", "FF19305"),
]


@pytest.mark.parametrize(("text", "code"), VALUES, ids=[v[0][:50] for v in VALUES])
def test_a_bad_value_is_told_at_its_line(text: str, code: str) -> None:
    head, _, rest = GOOD.partition("namespaces:")
    body = head if text.startswith("namespaces") else head + "namespaces:" + rest
    with pytest.raises(ConfigError) as caught:
        read(f"{text}\n{body}")
    assert (caught.value.problems[0].text[:7], caught.value.problems[0].line) == (code, 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("250", 0.25),
        ("1.5h", 5400.0),
        ("2us", 2e-6),
        ("'10 '", 0.01),
        ("0", 0.0),
        ("~", 60.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    retry = f"namespaces:\n  retry: {{maxDelay: {text}}}\n"
    settings = read(GOOD.replace("namespaces:\n", retry))
    assert settings.namespaces[0].start_retry.maximum_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("800Kb", 819_200),
        ("1M", 1 << 20),
        ("2GiB", 2 << 30),
        ("1.5k", 1536),
        ("77", 77),
        ("", 819_200),
    ],
)
def test_sizes(text: str, size: int) -> None:
    settings = read(f"broadcast: {{batch: {{payloadLimit: {text}}}}}\n{GOOD}")
    assert settings.namespaces[0].batch.broadcast_bytes_max == size
    settings = read(f"privatemessaging: {{batch: {{payloadLimit: {text}}}}}\n{GOOD}")
    assert settings.namespaces[0].batch.private_bytes_max == size


def test_broadcast_and_private_batches_have_their_own_sizes() -> None:
    text = "broadcast: {batch: {size: 7}}\nprivatemessaging: {batch: {size: 9}}\n"
    batch = read(text + GOOD).namespaces[0].batch
    assert (batch.broadcast_messages_max, batch.private_messages_max) == (7, 9)


def test_the_longest_time_of_collecting_is_read_from_fireflys_keys() -> None:
    text = "broadcast: {batch: {timeout: 1s}}\nprivatemessaging: {batch: {timeout: 250}}\n"
    batch = read(text + GOOD).namespaces[0].batch
    assert batch.broadcast_collect_max_ns == 1_000_000_000
    assert batch.private_collect_max_ns == 250_000_000
    assert read(GOOD).namespaces[0].batch.broadcast_collect_max_ns == COLLECT_MAX_NS


@pytest.mark.parametrize("word", ["yes", "On", "TRUE", "no", "off", "False"])
def test_truth_in_any_spelling(word: str) -> None:
    is_true = word.lower() in ("yes", "on", "true")
    text = GOOD.replace("enabled: true", f"enabled: {word}")
    settings = read(text if is_true else text.replace(ALPHA, OMEGA))
    assert (settings.namespaces[0].multiparty is not None) == is_true


def test_a_small_most_lowers_the_default_page() -> None:
    queries = read(f"api: {{maxFilterLimit: 10}}\n{GOOD}").namespaces[0].queries
    assert (queries.default_limit, queries.limit_max, queries.skip_max) == (10, 10, 10)


def test_how_far_a_list_can_be_skipped_has_a_key_of_its_own() -> None:
    """FireFly has one key for the page and for the skip."""
    queries = read(f"api: {{maxFilterSkip: 50000}}\n{GOOD}").namespaces[0].queries
    assert (queries.limit_max, queries.skip_max) == (1000, 50_000)


def test_how_many_rows_of_a_bucket_are_counted_can_be_set() -> None:
    assert read(GOOD).namespaces[0].chart_rows_max == 100
    settings = read(f"histograms: {{maxChartRows: 500}}\n{GOOD}")
    assert settings.namespaces[0].chart_rows_max == 500
    assert not settings.warnings


def test_sections_of_the_gateway_are_warned_about() -> None:
    settings = read(f"http: {{port: 5000}}\ncors: {{debug: true}}\n{GOOD}")
    assert sorted((w.path, w.line) for w in settings.warnings) == [
        ("cors.debug", 2),
        ("http.port", 1),
    ]
    assert str(settings.warnings[0]).startswith("f.yaml, line ")


def test_keys_without_effect_are_warned_about() -> None:
    lines = (
        "log: {noColor: true}",
        "api: {requestTimeout: 5s, maxFilterLimit: 50}",
        "opupdate: {worker: {count: 5}}",
    )
    settings = read("\n".join((*lines, "subscription: {max: 5}", GOOD)))
    found = sorted((w.path, w.line) for w in settings.warnings)
    assert found == [("api.requestTimeout", 2), ("log.noColor", 1), ("opupdate.worker.count", 3)]


def test_log_and_listen_settings() -> None:
    text = (
        "log: {level: DEBUG, json: {enabled: true}, filename: a.log, filesize: 5Mb, maxBackups: 7}"
    )
    settings = read(f"{text}\ngrpc: {{address: 'unix:x'}}\n{GOOD}")
    assert (settings.log.file_bytes_max, settings.log.files_kept) == (5 * 1024 * 1024, 7)
    assert (settings.log.level, settings.log.json, settings.log.filename) == (
        "debug",
        True,
        "a.log",
    )
    assert settings.listen.address == "unix:x"


def test_a_connector_of_any_type_and_its_command() -> None:
    connector = "type: corda\n    connector: {launch: photinus-corda --dir 'a b', instance: x}"
    text = GOOD.replace("type: ethereum", connector, 1)
    found = read(text).plugin("blockchain0").connector
    assert found is not None
    assert found.launch == ("photinus-corda", "--dir", "a b")
    assert (found.address, found.instance, found.insecure) == ("", "x", False)
    listed = "type: ffdx\n    connector: {launch: [photinus-dx, -v]}"
    found = read(GOOD.replace("type: ffdx", listed)).plugin("dx0").connector
    assert found is not None
    assert found.launch == ("photinus-dx", "-v")


def test_the_old_org_section_stands_in_and_makes_namespaces_multiparty() -> None:
    own = (
        "      enabled: true\n      org:\n        name: org0\n        key: 0x123456\n"
        "      node:\n        name: node0\n"
    )
    old = "org: {name: old, key: '0xold', description: d}\nnode: {name: oldnode}\n"
    text = old + GOOD.replace(own, "").replace(
        "- name: omega", "- name: omega\n    multiparty: {enabled: false}"
    )
    multiparty = read(text).namespaces[0].multiparty
    assert multiparty is not None
    assert (multiparty.org_name, multiparty.org_key, multiparty.node_name) == (
        "old",
        "0xold",
        "oldnode",
    )
    assert multiparty.org_description == "d"
    assert read(text).namespaces[1].multiparty is None
