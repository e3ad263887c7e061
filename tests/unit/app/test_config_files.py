"""Configuration as text: the user's own example, YAML that lies, environment, `config check`.

Method: the seed's example word for word; hostile YAML; the command on files in a temporary folder.
"""

from pathlib import Path

import pytest
from photinus_core.app.cli import main
from photinus_core.app.config import ConfigError, load, load_text
from photinus_core.app.config.tree import NODES_MAX

SEED = """\
plugins:
  database:
  - name: database0
    type: sqlite3
    sqlite3:
      migrations:
        auto: true
      url: /etc/firefly/db?_busy_timeout=5000
  blockchain:
  - name: blockchain0
    type: ethereum
    ethereum:
      ethconnect:
        url: http://ethconnect_0:8080
        topic: "0"
  - name: blockchain1
    type: ethereum
    ethereum:
      ethconnect:
        url: http://ethconnect_01:8080
        topic: "0"
  dataexchange:
  - name: dataexchange0
    type: ffdx
    ffdx:
      url: http://dataexchange_0:3000
  sharedstorage:
  - name: sharedstorage0
    type: ipfs
    ipfs:
      api:
        url: http://ipfs_0:5001
      gateway:
        url: http://ipfs_0:8080
  tokens:
  - name: erc20_erc721
    broadcastName: erc20_erc721
    type: fftokens
    fftokens:
      url: http://tokens_0_0:3000
namespaces:
  default: alpha
  predefined:
  - name: alpha
    description: Default predefined namespace
    defaultKey: 0x123456
    plugins: [database0, blockchain0, dataexchange0, sharedstorage0, erc20_erc721]
    multiparty:
      networkNamespace: alpha
      enabled: true
      org:
        name: org0
        description: org0
        key: 0x123456
      node:
        name: node0
        description: node0
      contract:
        - location:
            address: 0x4ae50189462b0e5d52285f59929d037f790771a6
          firstEvent: 0
        - location:
            address: 0x3c1bef20a7858f5c2f78bda60796758d7cafff27
          firstEvent: 5000
  - name: omega
    defaultkey: 0x48a54f9964d7ceede2d6a8b451bf7ad300c7b09f
    description: Gateway namespace
    plugins: [database0, blockchain1, erc20_erc721]
"""
"""The example of FireFly's page on namespaces, unchanged."""


def read(text: str, **environment: str) -> object:
    return load_text(text, "f.yaml", environment)


def problems(text: str, **environment: str) -> list[tuple[str, int]]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environment)
    return [(p.text[:7], p.line) for p in caught.value.problems]


def test_fireflys_example_loads_unchanged() -> None:
    settings = load_text(SEED, "f.yaml", {})
    assert settings.warnings == ()
    assert settings.default_namespace == "alpha"
    alpha, omega = settings.namespaces
    assert (alpha.name, alpha.description) == ("alpha", "Default predefined namespace")
    assert alpha.default_key == "0x123456"
    assert alpha.plugin_names == {
        "database0",
        "blockchain0",
        "dataexchange0",
        "sharedstorage0",
        "erc20_erc721",
    }
    multiparty = alpha.multiparty
    assert multiparty is not None
    assert (multiparty.network_namespace, multiparty.org_name, multiparty.node_name) == (
        "alpha",
        "org0",
        "node0",
    )
    assert multiparty.org_key == "0x123456"
    assert (multiparty.org_description, multiparty.node_description) == ("org0", "node0")
    assert [(c.location, c.first_event) for c in multiparty.contracts] == [
        ('{"address":"0x4ae50189462b0e5d52285f59929d037f790771a6"}', "0"),
        ('{"address":"0x3c1bef20a7858f5c2f78bda60796758d7cafff27"}', "5000"),
    ]
    assert omega.multiparty is None
    assert omega.network_name == "omega"
    assert omega.default_key == "0x48a54f9964d7ceede2d6a8b451bf7ad300c7b09f"
    assert (omega.data_exchange, omega.shared_storage) == (None, None)
    assert settings.plugin("blockchain0").config == {
        "ethconnect": {"url": "http://ethconnect_0:8080", "topic": "0"}
    }
    assert all(p.connector is None for p in settings.plugins)


def test_options_of_a_contract_are_kept_for_its_connector() -> None:
    first = "          firstEvent: 0\n"
    assert SEED.count(first) == 1
    options = "          options:\n            customPinSupport: true\n            Spare: [1]\n"
    multiparty = load_text(SEED.replace(first, options), "f", {}).namespaces[0].multiparty
    assert multiparty is not None
    assert [contract.options for contract in multiparty.contracts] == [
        '{"customPinSupport":"true","Spare":["1"]}',
        "",
    ]
    line = SEED.partition(first)[0].count("\n") + 1
    wrong = SEED.replace(first, "          options: none\n")
    assert problems(wrong) == [("FF19305", line)]


@pytest.mark.parametrize("key", ["0x123456", '"0x123456"', "0123", "1_000", "1e3", "true"])
def test_a_scalar_stays_the_text_it_is(key: str) -> None:
    settings = load_text(SEED.replace("key: 0x123456", f"key: {key}"), "f.yaml", {})
    multiparty = settings.namespaces[0].multiparty
    assert multiparty is not None
    assert multiparty.org_key == key.strip('"')


def test_a_quoted_null_is_text_and_a_bare_one_is_nothing() -> None:
    quoted = SEED.replace("description: Gateway namespace", 'description: "null"')
    bare = SEED.replace("description: Gateway namespace", "description: null")
    assert load_text(quoted, "f", {}).namespaces[1].description == "null"
    assert load_text(bare, "f", {}).namespaces[1].description == ""


def test_keys_in_any_case() -> None:
    upper = SEED.replace("namespaces:", "NameSpaces:").replace("contract:", "CONTRACT:")
    upper = upper.replace("networkNamespace", "NETWORKNAMESPACE").replace("sqlite3:", "SQLite3:")
    assert load_text(upper, "f", {}).namespaces == load_text(SEED, "f", {}).namespaces


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [", 1),
        ("a: b\n\tc: d", 2),
        ("a: 'b", 1),
        ("a: b\nb: *nobody", 2),
        ("- a", 1),
        ("text", 1),
        ("a: 1\n---\nb: 2", 2),
        ("a: \x01", 0),
        ("a: " + "[" * 60 + "]" * 60, 1),
        ("a: " + "[" * 100_000, 1),
        ("a: &a [*a]", 1),
        ("a: &a [*a, *a, *a]", 1),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_usable_yaml(text: str, line: int) -> None:
    assert problems(text) == [("FF19301", line)]


def test_an_alias_bomb_ends_at_the_limit() -> None:
    first = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"
    ten = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    lines = [first, *ten]
    found = problems("\n".join(lines))
    assert [code for code, _ in found] == ["FF19301"]
    assert NODES_MAX <= 100_000


def test_an_alias_that_is_no_bomb_works() -> None:
    text = SEED.replace("name: org0\n", "name: &o org0\n").replace("name: node0\n", "name: *o\n")
    multiparty = load_text(text, "f", {}).namespaces[0].multiparty
    assert multiparty is not None
    assert multiparty.node_name == "org0"


def test_an_empty_file_lacks_its_default_namespace() -> None:
    assert problems("") == [("FF10166", 1)]
    assert problems("# nothing\n") == [("FF10166", 1)]


# Environment


def test_the_environment_wins() -> None:
    settings = load_text(
        SEED,
        "f",
        {
            "FIREFLY_NAMESPACES_DEFAULT": "omega",
            "FIREFLY_NAMESPACES_PREDEFINED_0_MULTIPARTY_ORG_KEY": "0xfeed",
            "FIREFLY_PLUGINS_BLOCKCHAIN_0_ETHEREUM_ETHCONNECT_URL": "http://other",
            "FIREFLY_LOG_LEVEL": "debug",
            "FIREFLY_": "ignored",
            "PATH": "/bin",
        },
    )
    assert settings.default_namespace == "omega"
    multiparty = settings.namespaces[0].multiparty
    assert multiparty is not None
    assert multiparty.org_key == "0xfeed"
    assert settings.log.level == "debug"
    assert settings.plugin("blockchain0").config == {
        "ethconnect": {"url": "http://other", "topic": "0"}
    }


def test_the_environment_can_add_items_in_order() -> None:
    settings = load_text(
        SEED,
        "f",
        {
            "FIREFLY_PLUGINS_TOKENS_1_NAME": "more",
            "FIREFLY_PLUGINS_TOKENS_1_TYPE": "fftokens",
            "FIREFLY_NAMESPACES_PREDEFINED_1_PLUGINS_3": "more",
        },
    )
    assert [t.name for t in settings.namespaces[1].tokens] == ["erc20_erc721", "more"]


def test_the_environment_can_replace_text_by_a_section() -> None:
    settings = load_text(SEED + "log: {json: ~}\n", "f", {"FIREFLY_LOG_JSON_ENABLED": "true"})
    assert settings.log.json


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("FIREFLY_NONSENSE", "1", "FF19304"),
        ("FIREFLY_PLUGINS_BLOCKCHAIN_7_NAME", "x", "FF19304"),
        ("FIREFLY_PLUGINS_BLOCKCHAIN_²_NAME", "x", "FF19304"),
        ("FIREFLY_PLUGINS_BLOCKCHAIN_FIRST_NAME", "x", "FF19304"),
        ("FIREFLY_NAMESPACES_PREDEFINED_0_MULTIPARTY_ENABLED", "perhaps", "FF19305"),
        ("FIREFLY_NAMESPACES_PREDEFINED", "alpha", "FF19305"),
        ("FIREFLY_NAMESPACES_DEFAULT", "beta", "FF10166"),
    ],
)
def test_a_bad_variable_is_told(name: str, value: str, code: str) -> None:
    found = problems(SEED, **{name: value})
    assert code in [c for c, _ in found]
    assert [line for c, line in found if c == code and code != "FF10166"] in ([0], [])


# The command


def test_config_check_says_that_all_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "core.yaml"
    file.write_text(f"http: {{port: 5000}}\n{SEED}")
    assert main(["config", "check", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{file}: 2 namespaces (alpha, omega), no errors\n"
    assert err.startswith(f"warning: {file}, line 1: http.port: ")


def test_config_check_prints_every_problem_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "core.yaml"
    file.write_text(
        SEED.replace("name: omega", "name: ff_system")
        .replace("type: ffdx", "type: x")
        .replace("    ffdx:", "    x:")
    )
    assert main(["config", "check", str(file)]) == 2
    out, err = capsys.readouterr()
    lines = SEED.splitlines()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith(f"{file}, line {lines.index('  - name: dataexchange0') + 1}: ")
    assert "FF10213" in first
    assert second.startswith(f"{file}, line {lines.index('  - name: omega') + 1}: ")
    assert "FF10388" in second


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    file = tmp_path / "core.yaml"
    if content is not None:
        file.write_bytes(content)
    assert main(["config", "check", str(file)]) == 2
    assert "FF19301" in capsys.readouterr().err


def test_load_reads_the_environment_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "core.yaml"
    file.write_text(SEED)
    monkeypatch.setenv("FIREFLY_NAMESPACES_DEFAULT", "omega")
    assert load(file).default_namespace == "omega"
    assert load(file, {}).default_namespace == "alpha"
