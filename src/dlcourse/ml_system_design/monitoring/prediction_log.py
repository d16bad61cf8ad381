"""What was served, in bounded memory: features, predictions, latencies, and labels that come late.

Chapter 123.3.
"""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from . import _checks
from .quantile_sketch import DDSketch

_NO_LABEL = object()
_QUANTILES = (0.5, 0.95, 0.99)
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass
class _Served:
    features: tuple[Any, ...]
    prediction: Any
    label: Any = _NO_LABEL


class PredictionLog:
    """The newest ``capacity`` predictions with their features, and a sketch of all latencies.

    A label joins its prediction by the request's id while that is still here: take a capacity of at
    least requests per second · the delay of labels. ``late_labels`` counts those that came for
    none. Methods may be called from several threads.

    Args:
        capacity: predictions that are kept, at least 1.
        features: the names of the features, in order.
        relative_accuracy: of the latencies' quantiles, in (0, 1).

    Raises ValueError for names that are not unique, and numbers outside these ranges.
    """

    def __init__(
        self, capacity: int, features: Sequence[str], relative_accuracy: float = 0.01
    ) -> None:
        self.capacity = _checks.count(capacity, "capacity")
        if isinstance(features, str):
            raise TypeError(f"features must be a list of names: got {features!r}")
        self.features = tuple(features)
        if not self.features or len(set(self.features)) < len(self.features):
            raise ValueError(f"features must be unique names, at least one: got {self.features}")
        self.late_labels = 0
        self._recorded, self._seconds = 0, 0.0  # since the beginning, of all latencies
        self._latencies = DDSketch(relative_accuracy)
        self._served: OrderedDict[Hashable, _Served] = OrderedDict()  # oldest first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._served)

    def record(
        self, request: Hashable, features: Mapping[str, Any], prediction: Any, latency: float
    ) -> None:
        """Keep one prediction; the oldest makes room.

        Args:
            request: its id, which no other kept prediction has.
            features: a value for each name, as the model saw it; None for one that is missing.
            prediction: what the model answered.
            latency: in seconds, at least 0.

        Raises ValueError for an id that is here already, other names, or another latency; nothing
        is then kept.
        """
        if set(features) != set(self.features):
            absent = [name for name in self.features if name not in features]
            unknown = [name for name in features if name not in self.features]
            raise ValueError(f"features lack {absent}, and have {unknown}, which nobody named")
        if not isinstance(request, Hashable):
            raise TypeError(f"request must be an id, such as a string: got {request!r}")
        latency = _checks.at_least_zero(latency, "latency")
        row = tuple(features[name] for name in self.features)
        with self._lock:
            if request in self._served:
                raise ValueError(f"request {request!r} is here already: give each its own id")
            self._latencies.add(latency)
            self._recorded += 1
            self._seconds += latency
            self._served[request] = _Served(row, prediction)
            if len(self._served) > self.capacity:
                self._served.popitem(last=False)

    def label(self, request: Hashable, label: Any) -> bool:
        """Join the true answer to its prediction; a second label replaces the first.

        Returns whether the prediction was still here.
        """
        with self._lock:
            served = self._served.get(request)
            if served is None:
                self.late_labels += 1
                return False
            served.label = label
            return True

    def latency(self, q: float) -> float:
        """The quantile q of the latencies since the last ``take_latencies``, in seconds.

        Raises ValueError for q outside [0, 1], and where there are none.
        """
        with self._lock:
            return self._latencies.quantile(q)

    def take_latencies(self) -> DDSketch:
        """The sketch so far; a new one begins. One a minute shows when requests became slow, and
        merged they give the hour's quantiles."""
        with self._lock:
            taken = self._latencies
            self._latencies = DDSketch(taken.relative_accuracy, taken.max_buckets)
            return taken

    def columns(self, newest: int | None = None) -> dict[str, list[Any]]:
        """The features of the kept predictions, oldest first, as ``DriftDetector`` takes them.

        Args:
            newest: only so many, at least 1; None for all.
        """
        rows = [served.features for served in self._newest(newest)]
        return {name: [row[j] for row in rows] for j, name in enumerate(self.features)}

    def predictions(self, newest: int | None = None) -> list[Any]:
        """The kept predictions, oldest first: their drift shows before any label arrives."""
        return [served.prediction for served in self._newest(newest)]

    def labelled(self, newest: int | None = None) -> tuple[list[Any], list[Any]]:
        """Predictions and labels of those (of the newest) whose label has come, oldest first."""
        known = [served for served in self._newest(newest) if served.label is not _NO_LABEL]
        return [served.prediction for served in known], [served.label for served in known]

    def performance(
        self, metric: Callable[[list[Any], list[Any]], float], newest: int | None = None
    ) -> tuple[float | None, float]:
        """``metric(labels, predictions)``, and the share of predictions whose label has come.

        Labels that come soon may be of easy cases: a metric on a small share speaks of those only.
        The metric is None where no label has come.
        """
        predictions, labels = self.labelled(newest)
        n = len(self._newest(newest))
        return (metric(labels, predictions) if labels else None), len(labels) / n if n else 0.0

    def prometheus(self, gauges: Mapping[str, float | None] | None = None) -> str:
        """The log's metrics, and the caller's ``gauges``, in the text format of Prometheus.

        Latencies are a summary in seconds: its count and sum are of all predictions, its quantiles
        of those since the last ``take_latencies``, NaN where there are none.

        Args:
            gauges: values by name, such as the share of drifted features; None is unknown: NaN.

        Raises ValueError for a name that Prometheus does not allow or that the log uses itself,
        TypeError for a value that is no number.

        Source: Prometheus documentation, "Exposition formats", version 0.0.4.
        """
        with self._lock:
            kept = len(self._served)
            known = sum(served.label is not _NO_LABEL for served in self._served.values())
            sketch = self._latencies
            quantiles = {q: sketch.quantile(q) if sketch.count else math.nan for q in _QUANTILES}
            recorded, seconds, late = self._recorded, self._seconds, self.late_labels
        latency = Metric("prediction_latency_seconds", "Time to answer, in seconds.", "summary")
        for q, value in quantiles.items():
            latency.add_sample(latency.name, {"quantile": str(q)}, value)
        latency.add_sample(f"{latency.name}_sum", {}, seconds)
        latency.add_sample(f"{latency.name}_count", {}, recorded)
        families = [
            GaugeMetricFamily("predictions_kept", "Predictions in the log.", kept),
            GaugeMetricFamily("predictions_labelled", "Those of them that have a label.", known),
            CounterMetricFamily("labels_late", "Labels whose prediction had left the log.", late),
            latency,
        ]
        taken = {family.name for family in families}
        taken |= {"labels_late_total", f"{latency.name}_sum", f"{latency.name}_count"}
        for gauge, value in (gauges or {}).items():
            if not isinstance(gauge, str) or not _METRIC.fullmatch(gauge) or gauge in taken:
                raise ValueError(
                    f"a gauge's name must have letters, digits and _ only, begin with no digit, "
                    f"and be none of {sorted(taken)}: got {gauge!r}"
                )
            number = math.nan if value is None else _checks.real(value, f"gauges[{gauge!r}]")
            families.append(GaugeMetricFamily(gauge, "Given by the caller.", number))
        return generate_latest(_Collected(families)).decode("utf8")

    def _newest(self, newest: int | None) -> list[_Served]:
        if newest is not None:
            newest = _checks.count(newest, "newest")
        with self._lock:
            kept = [*self._served.values()]
        return kept if newest is None else kept[-newest:]


class _Collected:
    """Families that are there already, as prometheus_client wants to collect them."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> list[Metric]:
        return self.families
