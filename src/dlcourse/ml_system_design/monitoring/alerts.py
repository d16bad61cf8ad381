"""When to tell someone, and when not to: alerts that do not flutter, repeat, or get lost.

Chapter 123.3. The duration before an alert is ``for`` of Prometheus' alerting rules; the two
thresholds are those of a Schmitt trigger.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from . import _checks


@dataclass(frozen=True)
class AlertRule:
    """Raised while a metric is beyond ``raise_at``, cleared when it is back beyond ``clear_at``.

    Args:
        name: of the rule, unique.
        metric: the name of the metric that it looks at.
        raise_at: raised above this value (below it where ``when`` is "below").
        clear_at: cleared at this value or better; None is ``raise_at``. Between the two the state
            stays as it is: noise around one threshold would raise and clear without end.
        for_seconds: how long the metric must be beyond ``raise_at``, at least 0.
        clear_for_seconds: how long it must be back, at least 0.
        repeat_after: seconds after which an alert that is still raised is told again; None: never.
        when: "above" for what should be low (latency), "below" for what should be high (accuracy).
        max_gap: seconds between two values, beyond which nobody knows what lay between them: either
            duration then begins anew. None takes two bad values for bad all the time between.

    Raises ValueError where ``clear_at`` is worse than ``raise_at``, and for other numbers.
    """

    name: str
    metric: str
    raise_at: float
    clear_at: float | None = None
    for_seconds: float = 0.0
    clear_for_seconds: float = 0.0
    repeat_after: float | None = None
    when: Literal["above", "below"] = "above"
    max_gap: float | None = None

    def __post_init__(self) -> None:
        if self.when not in ("above", "below"):
            raise ValueError(f'when must be "above" or "below": got {self.when!r}')
        clear_at = self.raise_at if self.clear_at is None else self.clear_at
        for name, value in (("raise_at", self.raise_at), ("clear_at", clear_at)):
            _checks.real(value, name)
        if not (math.isfinite(self.raise_at) and math.isfinite(clear_at)):
            raise ValueError(f"thresholds must be finite: got {self.raise_at}, {clear_at}")
        if self._beyond(clear_at, self.raise_at):
            raise ValueError(
                f"clear_at must not be {self.when} raise_at: got {clear_at} and {self.raise_at}"
            )
        _checks.at_least_zero(self.for_seconds, "for_seconds")
        _checks.at_least_zero(self.clear_for_seconds, "clear_for_seconds")
        repeat = self.repeat_after
        if repeat is not None and not _checks.real(repeat, "repeat_after") > 0:
            raise ValueError(f"repeat_after must be above 0 or None: got {self.repeat_after!r}")
        if self.max_gap is not None and not _checks.real(self.max_gap, "max_gap") > 0:
            raise ValueError(f"max_gap must be above 0 or None: got {self.max_gap!r}")

    def _beyond(self, value: float, threshold: float) -> bool:
        return value > threshold if self.when == "above" else value < threshold

    def is_bad(self, value: float) -> bool:
        """Whether this value, if it lasts, raises the alert."""
        return self._beyond(value, self.raise_at)

    def is_good(self, value: float) -> bool:
        """Whether this value, if it lasts, clears the alert."""
        return not self._beyond(value, self.raise_at if self.clear_at is None else self.clear_at)


class Alert(NamedTuple):
    """What a sink is told. ``since`` is when this state began, ``time`` now: of the clock, in s."""

    rule: str
    state: Literal["raised", "still raised", "cleared"]
    metric: str
    value: float
    since: float
    time: float


Sink = Callable[[Alert], None]


class _State:
    """A rule's state: what it is, and since when the metric has asked for the other one."""

    def __init__(self) -> None:
        self.raised = False
        self.since = -math.inf
        self.other_since: float | None = None
        self.value = math.nan
        self.seen: float | None = None
        self.silent_until = -math.inf
        self.told: dict[int, tuple[bool, float]] = {}  # by sink: the state last told, and when


class AlertManager:
    """Tells each sink of each change of each rule's state once.

    A silenced rule goes on being followed: when the silence ends, sinks are told what is then so,
    and nothing of an alert that came and went. A sink that raises an exception is told again at the
    next observation, the others are not; ``failures`` keeps the last 100 exceptions.

    Args:
        rules: with unique names, at least one.
        sinks: each is called with an ``Alert``: it writes a log line, posts to a chat, calls a
            pager.
        clock: seconds that never go back; tests give their own.

    Raises ValueError for names that are not unique, and where there is no rule or no sink.
    """

    def __init__(
        self,
        rules: Iterable[AlertRule],
        sinks: Iterable[Sink],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        rules, self._sinks = [*rules], [*sinks]
        if wrong := [rule for rule in rules if not isinstance(rule, AlertRule)]:
            raise TypeError(f"rules must be of AlertRule: got {wrong}")
        self.rules = {rule.name: rule for rule in rules}
        if not rules or len(self.rules) < len(rules):
            raise ValueError(f"rules must be at least one, of unique names: got {rules}")
        if not self._sinks or not all(map(callable, self._sinks)):
            raise ValueError("sinks must be at least one function of an Alert: who else is told?")
        self.failures: deque[tuple[Alert, Exception]] = deque(maxlen=100)
        self._clock = clock
        self._now = -math.inf
        self._states = {name: _State() for name in self.rules}
        self._began = self._time()

    def observe(self, metrics: Mapping[str, float | None]) -> list[Alert]:
        """Follow each rule whose metric is here; returns the alerts that some sink was told.

        A metric that is None or NaN is unknown: it neither clears an alert nor lets one ripen. One
        that is absent leaves its rules as they are, and its time goes on: give None for what could
        not be measured, or the rule a ``max_gap``. ``stale`` finds those that stay away.

        Raises TypeError for a value that is no number, before any rule is followed, and ValueError
        where the clock went back.
        """
        values = {
            name: None if value is None else _checks.real(value, f"metrics[{name!r}]")
            for name, value in metrics.items()
        }
        now = self._time()
        for name, rule in self.rules.items():
            if rule.metric in values:
                self._follow(rule, self._states[name], values[rule.metric], now)
        return [alert for name in self.rules for alert in self._tell(name, now)]

    def silence(self, rule: str, seconds: float) -> None:
        """Tell nobody of this rule for so long from now; 0 ends a silence.

        Raises KeyError for a rule that does not exist, ValueError for other seconds.
        """
        state, seconds = self._state(rule), _checks.at_least_zero(seconds, "seconds")
        state.silent_until = self._time() + seconds

    def is_raised(self, rule: str) -> bool:
        """Whether the rule is raised now, told or not. Raises KeyError where there is none."""
        return self._state(rule).raised

    def stale(self, seconds: float) -> list[str]:
        """The rules whose metric has had no value for so long: nothing watches there any more."""
        now = self._time()
        last = {
            name: self._began if s.seen is None else s.seen for name, s in self._states.items()
        }
        return [name for name, seen in last.items() if now - seen >= seconds]

    def _follow(self, rule: AlertRule, state: _State, value: float | None, now: float) -> None:
        if value is None or math.isnan(value):
            state.other_since = None
            return
        if rule.max_gap is not None and state.seen is not None and now - state.seen > rule.max_gap:
            state.other_since = None
        state.value, state.seen = value, now
        if not (rule.is_good(value) if state.raised else rule.is_bad(value)):
            state.other_since = None
            return
        if state.other_since is None:
            state.other_since = now
        wait = rule.clear_for_seconds if state.raised else rule.for_seconds
        if now - state.other_since >= wait:
            state.raised, state.since, state.other_since = not state.raised, now, None

    def _tell(self, name: str, now: float) -> list[Alert]:
        rule, state = self.rules[name], self._states[name]
        if now < state.silent_until:
            return []
        alerts = []
        for i, sink in enumerate(self._sinks):
            told, when = state.told.get(i, (False, -math.inf))
            if state.raised != told:
                change = "raised" if state.raised else "cleared"
            elif told and rule.repeat_after is not None and now - when >= rule.repeat_after:
                change = "still raised"
            else:
                continue
            alert = Alert(name, change, rule.metric, state.value, state.since, now)
            try:
                sink(alert)
            except Exception as error:  # one broken sink must not silence the others
                self.failures.append((alert, error))
                continue
            state.told[i] = state.raised, now
            if alert not in alerts:
                alerts.append(alert)
        return alerts

    def _state(self, rule: str) -> _State:
        if rule not in self._states:
            raise KeyError(f"no rule {rule!r}: there are {sorted(self._states)}")
        return self._states[rule]

    def _time(self) -> float:
        now = float(self._clock())
        if not now >= self._now:
            raise ValueError(f"the clock went back from {self._now} to {now}: use time.monotonic")
        self._now = now
        return now
