"""Histograms of durations that cost a microsecond a value.

`prometheus_client`'s own walk their buckets under locks, which is many times what some calls cost.
These belong to one event loop: values come from it, and they are read there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import HistogramMetricFamily


class _Series:
    """Values of one set of labels."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds


class Timings:
    """A histogram of seconds, by labels.

    Args:
        name: Of the series.
        text: What it says, for people.
        labels: Their names.
        bounds: Upper bounds of the buckets, growing; the last bucket has none.
        registry: Shows it.
    """

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._bounds = tuple(bounds)
        self._les = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._series: dict[tuple[str, ...], _Series] = {}
        registry.register(self)

    def of(self, *labels: str) -> Callable[[float], None]:
        """Counts values of some labels; their series is there from now on."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series(self._bounds)
        return series.observe

    def describe(self) -> Iterable[Metric]:
        """What it will show, for the registry."""
        return [HistogramMetricFamily(self._name, self._text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """What it shows."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, series in self._series.items():
            reached = zip(self._les, map(float, accumulate(series.counts)), strict=True)
            family.add_metric(labels, list(reached), series.total)
        return [family]
