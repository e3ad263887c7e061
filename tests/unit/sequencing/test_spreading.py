"""Goal: roles spread evenly and move little; a leader makes room only when all is calm, once, and not for a replica
that keeps going away.

Method: directed cases, and a simulated queue in virtual time in which replicas come and go by chance.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from photinus_core.sequencing.spreading import (
    ABSENCES_COUNTED_MAX,
    FORGIVEN_AFTER,
    Calm,
    Candidate,
    lets_pass,
    preference,
)

ROLE = "namespace/alpha"
QUIET_S = 10.0
NAMES = sorted("abcdef", key=lambda name: -preference(ROLE, name))
BEST, SECOND, THIRD = NAMES[:3]


def queue(*names: str) -> list[Candidate]:
    return [Candidate(order, name, f"{name}{order}") for order, name in enumerate(names)]


def test_roles_spread_evenly_and_move_only_from_or_to_who_came_or_went() -> None:
    roles = [f"namespace/{number}" for number in range(600)]
    names = ["one", "two", "three"]
    leads = {role: max(names, key=lambda n: preference(role, n)) for role in roles}
    assert all(160 < count < 240 for count in Counter(leads.values()).values())
    without = {role: max(names[:2], key=lambda n: preference(role, n)) for role in roles}
    assert all(leads[r] == without[r] for r in roles if leads[r] != "three")


@pytest.mark.parametrize(
    ("names", "own", "expected"),
    [
        ((THIRD, SECOND, BEST), 1, True),
        ((THIRD, BEST, SECOND), 1, False),
        ((THIRD, BEST, SECOND), 2, False),
        ((SECOND, BEST), 0, False),  # who leads does not let pass, but hands over
        ((THIRD, SECOND, SECOND), 1, False),
    ],
)
def test_waiting_candidates_let_better_ones_pass(
    names: tuple[str, ...], own: int, expected: bool
) -> None:
    waiting = queue(*names)
    assert lets_pass(ROLE, waiting, waiting[own]) is expected


def test_letting_pass_ends_with_the_best_next() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        waiting = queue(*chance.sample(NAMES, len(NAMES)))
        order = len(waiting)
        for _ in range(len(NAMES) ** 2):
            movable = [c for c in waiting if lets_pass(ROLE, waiting, c)]
            if not movable:
                break
            moved = chance.choice(movable)
            waiting.remove(moved)
            waiting.append(Candidate(order, moved.replica, f"{moved.replica}{order}"))
            order += 1
        assert not any(lets_pass(ROLE, waiting, c) for c in waiting), f"seed {seed}"
        rest = [c.replica for c in waiting[1:]]
        assert rest == sorted(rest, key=lambda n: -preference(ROLE, n)), f"seed {seed}"


def test_nobody_better_is_no_reason() -> None:
    calm = Calm(ROLE, BEST, QUIET_S)
    for waiting in (queue(BEST), queue(BEST, SECOND), queue(BEST, BEST)):
        calm.seen(waiting, 0.0)
        assert calm.hand_over_at(waiting, 0.0) is None


def test_a_better_replica_and_the_leadership_itself_must_have_lasted() -> None:
    calm = Calm(ROLE, SECOND, QUIET_S)
    calm.seen(queue(SECOND), 0.0)
    calm.seen(queue(SECOND, THIRD, BEST), 50.0)
    assert calm.hand_over_at(queue(SECOND, THIRD, BEST), 0.0) is None, "another would be next"
    waiting = queue(SECOND, BEST, THIRD)
    assert calm.hand_over_at(waiting, 0.0) == 50.0 + QUIET_S
    assert calm.hand_over_at(waiting, 55.0) == 55.0 + QUIET_S
    calm.seen(waiting, 58.0)
    assert calm.hand_over_at(waiting, 0.0) == 50.0 + QUIET_S, "looking again changes nothing"


def test_who_goes_away_is_waited_for_longer_each_time_and_is_forgiven() -> None:
    calm = Calm(ROLE, SECOND, QUIET_S)
    now = 0.0
    for absences in range(ABSENCES_COUNTED_MAX + 3):
        calm.seen(queue(SECOND, BEST), now)
        wait_s = QUIET_S * 2 ** min(absences, ABSENCES_COUNTED_MAX)
        assert calm.hand_over_at(queue(SECOND, BEST), 0.0) == now + wait_s
        calm.seen(queue(SECOND), now := now + 1)
    now += FORGIVEN_AFTER * QUIET_S * 2**ABSENCES_COUNTED_MAX + 1
    calm.seen(queue(SECOND), now)
    calm.seen(queue(SECOND, BEST), now)
    assert calm.hand_over_at(queue(SECOND, BEST), 0.0) == now + QUIET_S


@pytest.mark.parametrize("seed", range(20))
def test_replicas_that_come_and_go_never_make_a_role_flap(seed: int) -> None:
    """The queue as the ensemble keeps it, in steps of a second; one replica is restarted again and again."""
    chance = random.Random(seed)
    order, now, waiting = 0, 0.0, list[Candidate]()
    calms = {name: Calm(ROLE, name, QUIET_S) for name in (BEST, SECOND, THIRD)}
    handed_over = list[float]()
    led_since, leader = 0.0, ""
    up_at = {BEST: 0.0, SECOND: 0.0, THIRD: 0.0}
    unstable_s, longest_s = 2_000, QUIET_S * 2**ABSENCES_COUNTED_MAX
    while now < unstable_s + 2 * longest_s:
        now += 1.0
        is_up = any(c.replica == BEST for c in waiting)
        if is_up and now < unstable_s and chance.random() < 0.02:  # it crashes
            waiting = [c for c in waiting if c.replica != BEST]
            calms[BEST] = Calm(ROLE, BEST, QUIET_S)
            up_at[BEST] = now + 3
        for name, at in up_at.items():
            if now >= at and all(c.replica != name for c in waiting):
                waiting.append(Candidate(order, name, f"{name}{order}"))
                order += 1
        for candidate in list(waiting):
            if lets_pass(ROLE, waiting, candidate):
                waiting.remove(candidate)
                waiting.append(Candidate(order, candidate.replica, f"{candidate.replica}{order}"))
                order += 1
        if waiting[0].replica != leader:
            leader, led_since = waiting[0].replica, now
        for candidate in waiting:
            calms[candidate.replica].seen(waiting, now)
        due = calms[leader].hand_over_at(waiting, led_since)
        if due is not None and now >= due:
            handed_over.append(now)
            assert now - led_since >= QUIET_S
            waiting.pop(0)
    # About 40 crashes; each but the first few is followed by a much longer wait.
    assert len(handed_over) <= 12, handed_over
    assert leader == BEST, "it is not given up for ever"
