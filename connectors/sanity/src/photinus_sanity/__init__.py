"""Conformance suite for connectors: does one keep the protocol, whatever language it is written in?

Black box: the suite plays the core over gRPC and knows `photinus.connector.v1` and nothing else. It
uses what a connector claims in Describe to choose its checks. Run it against a connector that holds
nothing of value: it makes instances, submits work and restarts what it launched.

    from photinus_sanity import Launched, Plan, Profile, run_suite

    outcomes = await run_suite(Launched(("my-connector",)), Plan(profile=Profile.FULL))
"""

from photinus_sanity.catalogue import Check, Level, Profile
from photinus_sanity.checks import all_checks
from photinus_sanity.runner import Outcome, Plan, Status, run_suite
from photinus_sanity.setup import Setup
from photinus_sanity.targets import Attached, Launched, Target, UnreachableError

__all__ = [
    "Attached",
    "Check",
    "Launched",
    "Level",
    "Outcome",
    "Plan",
    "Profile",
    "Setup",
    "Status",
    "Target",
    "UnreachableError",
    "all_checks",
    "run_suite",
]
