"""Goal: a configuration is checked before anything is done with it, and its secrets are marked.

Method: the kit's parser and our checks on a table of configurations.
"""

import json

import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus_ethereum.service import EthereumConnector
from photinus_ethereum.settings import EthereumSettings, check
from photinus_sdk.settings import InvalidSettings, parse_settings

KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
GOOD = {"rpc": {"url": "http://127.0.0.1:8545"}, "confirmations": 0}


def pointers(config: dict[str, object]) -> list[str]:
    settings = parse_settings(EthereumSettings, json.dumps(config))
    return [found.pointer for found in check(settings) if found.severity == common.SEVERITY_ERROR]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({}, None),
        ({"keys": [{"privateKey": KEY}]}, None),
        ({"keys": [{"keystore": "k.json", "passwordFile": "p"}]}, None),
        ({"rpc": {"url": "ftp://x"}}, "/rpc/url"),
        ({"rpc": {"url": "http://"}}, "/rpc/url"),
        ({"rpc": {"url": "http://x", "wsUrl": "http://x"}}, "/rpc/wsUrl"),
        ({"keys": [{}]}, "/keys/0"),
        ({"keys": [{"privateKey": KEY, "privateKeyFile": "f"}]}, "/keys/0"),
        ({"keys": [{"keystore": "k.json"}]}, "/keys/0"),
        ({"keys": [{"privateKey": KEY, "password": "p"}]}, "/keys/0"),
        ({"defaultKey": "junk"}, "/defaultKey"),
    ],
)
def test_findings(change: dict[str, object], pointer: str | None) -> None:
    assert pointers(GOOD | change) == ([] if pointer is None else [pointer])


@pytest.mark.parametrize(
    "change",
    [
        {"rpc": {}},
        {"confirmations": -1},
        {"confirmation": 1},
        {"gas": {"factor": 0.5}},
        {"fees": {"mode": "cheap"}},
        {"rpc": {"url": "http://x", "timeoutS": 0}},
    ],
)
def test_types_refuse(change: dict[str, object]) -> None:
    with pytest.raises(InvalidSettings):
        parse_settings(EthereumSettings, json.dumps(GOOD | change))


def test_missing_confirmations_are_fireflys_and_warned_about() -> None:
    settings = parse_settings(EthereumSettings, json.dumps({"rpc": GOOD["rpc"]}))
    assert settings.depth == 20
    (warning,) = check(settings)
    assert (warning.severity, warning.pointer) == (common.SEVERITY_WARNING, "/confirmations")


def test_secrets_are_marked_and_hidden() -> None:
    schema = json.loads(EthereumConnector.description.config_schema_json)
    secrets = {
        name
        for kind in schema["$defs"].values()
        for name, field in kind.get("properties", {}).items()
        if '"writeOnly": true' in json.dumps(field)
    }
    assert secrets == {"privateKey", "password"}
    settings = parse_settings(EthereumSettings, json.dumps(GOOD | {"keys": [{"privateKey": KEY}]}))
    assert KEY not in repr(settings)
