"""Which fault comes when: a pure function of seed, length and topology."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.robustness.topology import Topology

FREEZE_MIN_S: Final = 3.0
FREEZE_MAX_S: Final = 20.0
FREEZE_USUAL_S: Final = 5.0
SPOIL_MIN_S: Final = 1.0
SPOIL_MAX_S: Final = 12.0
DOWN_MAX_S: Final = 4.0
PAUSE_MIN_S: Final = 1.0
PAUSE_MAX_S: Final = 5.0
SHARE_OVERLAPPING: Final = 0.25
"""How many faults begin while the former one lasts."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault to come.

    Attributes:
        at: Seconds after the start.
        target: A process, a link, or `leader/<member>`, which is found when the time has come.
        seconds: How long it lasts; for a kill or a stop, how long the process stays away.
    """

    at: float
    kind: str
    target: str
    seconds: float


def targets(topology: Topology) -> Mapping[str, Sequence[str]]:
    """What each kind of fault can hit in a topology; kinds without a target are left out."""
    members = range(topology.members)
    leaders = [f"leader/{m}" for m in members]
    followers = [f"follower/{m}" for m in members] if topology.replicas > 1 else []
    found: dict[str, Sequence[str]] = {}
    for verb in ("kill", "stop", "freeze"):
        found[f"{verb} leader"] = leaders
        found[f"{verb} follower"] = followers
        found[f"{verb} connector"] = topology.connectors
        found[f"{verb} gateway"] = topology.gateways
    found["restart database"] = ["database"] if topology.postgres else []
    found["kill ZooKeeper"] = ["zookeeper"] if topology.zookeeper else []
    found["freeze chain"] = ["chain"]
    for verb in ("cut", "black hole", "slow"):
        found[f"{verb} link"] = topology.links
    return {kind: hit for kind, hit in found.items() if hit}


def plan(seed: int, seconds: float, topology: Topology) -> list[PlannedFault]:
    """The faults of a run. The kinds are dealt like cards, so that each comes before any comes again."""
    chance = random.Random(seed)
    possible = targets(topology)
    deck: list[str] = []
    found: list[PlannedFault] = []
    at = chance.uniform(PAUSE_MIN_S, PAUSE_MAX_S)
    while at < seconds:
        if not deck:
            deck = sorted(possible)
            chance.shuffle(deck)
        kind = deck.pop()
        busy = {fault.target for fault in found if fault.at + fault.seconds + PAUSE_MIN_S > at}
        free = [target for target in possible[kind] if target not in busy]
        if not free:
            at += PAUSE_MIN_S
            deck.insert(0, kind)
            continue
        fault = PlannedFault(round(at, 2), kind, chance.choice(free), _seconds(kind, chance))
        found.append(fault)
        overlaps = chance.random() < SHARE_OVERLAPPING
        at += (0.0 if overlaps else fault.seconds) + chance.uniform(PAUSE_MIN_S, PAUSE_MAX_S)
    return found


def _seconds(kind: str, chance: random.Random) -> float:
    if kind.startswith("freeze"):
        seconds = chance.triangular(FREEZE_MIN_S, FREEZE_MAX_S, FREEZE_USUAL_S)
    elif kind.endswith("link"):
        seconds = chance.uniform(SPOIL_MIN_S, SPOIL_MAX_S)
    else:
        seconds = chance.uniform(0.0, DOWN_MAX_S)
    return round(seconds, 2)
