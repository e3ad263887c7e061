"""The section `spi`: what concerns change events is the core's, the listener is the gateway's. Table-driven."""

from __future__ import annotations

import pytest
from photinus_core.app.config import ConfigError, load_text
from photinus_core.app.config.changes import compare
from photinus_core.events.changes import ChangeLimits

from tests.support.configs import BASE


@pytest.mark.parametrize(
    ("text", "environment", "limits"),
    [
        ("", {}, ChangeLimits(250, 60.0)),
        ("spi: {ws: {eventQueueLength: 7, blockedWarnInterval: 30s}}", {}, ChangeLimits(7, 30.0)),
        (
            "spi: {ws: {eventQueueLength: 7}}",
            {"FIREFLY_SPI_WS_EVENTQUEUELENGTH": "9"},
            ChangeLimits(9),
        ),
    ],
)
def test_limits_of_change_events(
    text: str, environment: dict[str, str], limits: ChangeLimits
) -> None:
    settings = load_text(BASE + text, "f.yaml", environment)
    assert settings.changes == limits
    assert settings.warnings == ()


def test_what_is_the_gateways_is_taken_with_a_warning() -> None:
    text = "spi: {enabled: true, address: 0.0.0.0, port: 5001, ws: {readBufferSize: 16Kb}}"
    settings = load_text(BASE + text, "f.yaml", {})
    assert [w.path for w in settings.warnings] == [
        *("spi.ws.readBufferSize", "spi.enabled", "spi.address", "spi.port"),
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("spi: {ws: {eventQueueLength: 0}}", "FF19305"),
        ("spi: {ws: {eventQueueLength: many}}", "FF19305"),
        ("spi: {ws: {eventQueueLength: 100001}}", "FF19305"),
        ("spi: {ws: {blockedWarnInterval: soon}}", "FF19305"),
        ("spi: {ws: {queue: 1}}", "FF19304"),
        ("spi: {ports: 1}", "FF19304"),
        ("spi: {ws: 1}", "FF19305"),
    ],
)
def test_wrong_settings(text: str, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(BASE + text, "f.yaml", {})
    assert [problem.text[:7] for problem in caught.value.problems] == [code]


def test_a_change_of_them_needs_a_restart() -> None:
    running = load_text(BASE, "f.yaml", {})
    wanted = load_text(BASE + "spi: {ws: {eventQueueLength: 7}}", "f.yaml", {})
    changes = compare(running, wanted, {p.name: p for p in running.plugins})
    assert changes.needs_restart == ("spi.ws.eventQueueLength",)
    assert changes.settings.changes == running.changes
