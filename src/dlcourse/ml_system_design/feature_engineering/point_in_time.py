"""A join of events with the features that were known when they happened.

The rule is that of feature stores (Feast's point-in-time join): an event sees the newest row of its
entity that was *available* by then. A feature is available later than the time that it speaks of,
by the time that computing or reporting takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from . import _checks


def point_in_time_join(
    events: pd.DataFrame,
    features: pd.DataFrame,
    on: str,
    by: str,
    tolerance: Any = None,
    delay: Any = None,
    *,
    strict: bool = False,
) -> pd.DataFrame:
    """Give each event the newest feature row of its entity that was available by then.

    For an event of entity e at time t, over the rows of e with feature times s:

        s* = max { s : s + delay ≤ t }        and no row at all if t − s* > tolerance

    Of rows with the same s the one that stands last in ``features`` counts, as a correction would.

    Args:
        events: n rows in any order, with the columns ``on`` and ``by``.
        features: m rows in any order, with ``on``, ``by`` and the features. Where the table holds
            the time at which each row became available, name that column ``on``.
        on: the time: datetimes in both tables, both with a zone or both without, or numbers.
        by: the entity: of one kind in both. A missing entity matches nothing.
        tolerance: the greatest age t − s of a feature, None for any: a timedelta (or ``"7D"``) for
            datetimes, else a number.
        delay: how long after s a feature is available, None for at once; as ``tolerance``.
        strict: ask for s + delay < t, for features that the event itself may have changed.

    Returns:
        The columns, rows and index of ``events``; then ``<on>_feature``, the s* of the row that
        was taken; then the features. Where there is no row they are missing.

    Raises:
        TypeError: times or entities of different kinds, or a delay or tolerance of another kind.
        ValueError: a column that is not there or is in both tables, a missing time, or a delay or
            tolerance below 0.
    """
    _checks.table(events, "events")
    _checks.table(features, "features")
    if on == by:
        raise ValueError(f"on and by must be two columns: got {on!r} for both")
    _checks.present(events, [on, by], "events")
    _checks.present(features, [on, by], "features")
    columns = [column for column in features.columns if column not in (on, by)]
    both = [name for name in [f"{on}_feature", *columns] if name in events.columns]
    if both or f"{on}_feature" in columns:
        raise ValueError(f"rename columns of features: {both or [f'{on}_feature']} would be twice")
    event_times, feature_times = _times(events[on], features[on], on)
    dated = event_times.dtype.kind == "M"
    wait = _span(delay, dated, "delay")
    if not dated and isinstance(wait, float) and event_times.dtype.kind == "i":
        event_times, feature_times = _exact(event_times, on), _exact(feature_times, on)
    oldest = None if tolerance is None else _span(tolerance, dated, "tolerance")

    event_codes, feature_codes = _entities(events[by], features[by], by)
    wanted = pd.DataFrame({"time": event_times, "entity": event_codes, "event": range(len(events))})
    offered = pd.DataFrame(
        {"time": feature_times + wait, "entity": feature_codes, "row": range(len(features))}
    )
    offered = offered[offered["entity"] >= 0]  # −1 is a missing entity
    joined = pd.merge_asof(
        wanted.sort_values("time", kind="stable"),
        offered.sort_values("time", kind="stable"),  # of a tie the last row stays last
        on="time",
        by="entity",
        direction="backward",
        allow_exact_matches=not strict,
    )
    rows = joined.sort_values("event")["row"].fillna(-1)
    rows = rows.to_numpy(dtype=np.intp, copy=True)  # (n,), −1 for none
    if oldest is not None:
        found = np.flatnonzero(rows >= 0)
        age = event_times[found] - feature_times[rows[found]]  # t − s*
        rows[found[age > oldest]] = -1

    taken = features[[on, *columns]].rename(columns={on: f"{on}_feature"})
    taken = taken.reset_index(drop=True).reindex(rows)  # row −1 does not exist: missing
    taken.index = events.index
    return pd.concat([events, taken], axis=1)


def _times(events: pd.Series, features: pd.Series, on: str) -> tuple[np.ndarray, np.ndarray]:
    """Both columns of times in one dtype: nanoseconds (rounding would let the future in), int64,
    or float64."""
    kinds = {_checks.kind_of(events), _checks.kind_of(features)} - {"empty"}
    for column, name in ((events, "events"), (features, "features")):
        if column.isna().any():
            raise ValueError(f"{name}[{on!r}] has missing times: drop these rows")
    if kinds <= {"datetime"} or kinds <= {"datetime with a zone"}:
        zone = "UTC" if "datetime with a zone" in kinds else None

        def nanoseconds(column: pd.Series) -> np.ndarray:
            if column.empty:
                return np.empty(0, "datetime64[ns]")
            column = column.dt.tz_convert(zone).dt.tz_localize(None) if zone else column
            return column.dt.as_unit("ns").to_numpy()

        if not kinds and pd.api.types.is_numeric_dtype(events.dtype):
            return np.empty(0), np.empty(0)
        return nanoseconds(events), nanoseconds(features)
    if not kinds <= {"integer", "number"}:
        raise TypeError(f"{on!r} must hold datetimes, or numbers, in both tables: got {kinds}")
    if all(pd.api.types.is_integer_dtype(c.dtype) or c.empty for c in (events, features)):
        return events.to_numpy(dtype=np.int64), features.to_numpy(dtype=np.int64)
    return _exact(events.to_numpy(), on), _exact(features.to_numpy(), on)


def _exact(times: np.ndarray, on: str) -> np.ndarray:
    """Numbers as float64, if they are the same there."""
    numbers = times.astype(np.float64)
    if not np.isfinite(numbers).all() or np.abs(numbers).max(initial=0) > 2**53:
        raise ValueError(f"{on!r} must be finite, and exact in float64: at most 2⁵³")
    return numbers


def _span(value: Any, dated: bool, name: str) -> Any:
    """A length of time that suits the times, at least 0; None is 0."""
    if dated:
        if isinstance(value, (int, float, np.number)):
            raise TypeError(f"{name} must be a timedelta or like '7D': got the number {value!r}")
        try:
            span = np.timedelta64(0, "ns") if value is None else pd.Timedelta(value).as_unit("ns")
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a timedelta or like '7D': got {value!r}") from None
        span = pd.Timedelta(span)
        bad = pd.isna(span) or span < pd.Timedelta(0)
        span = span if bad else span.to_timedelta64()
    else:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number, type(None))):
            raise TypeError(f"{name} must be a number, as the times are: got {value!r}")
        span = 0 if value is None else value
        bad = not np.isfinite(span) or span < 0
        span = span if bad else int(span) if span == int(span) else float(span)
    if bad:
        raise ValueError(f"{name} must be finite and at least 0: got {value!r}")
    return span


def _entities(events: pd.Series, features: pd.Series, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Entities of both tables as numbers, equal for equal ones; −1 where missing."""
    kinds = {_checks.kind_of(events), _checks.kind_of(features)} - {"empty"}
    if len(kinds) > 1:
        raise TypeError(f"{by!r} is of different kinds in the two tables, {kinds}: convert one")
    both = [*events.astype(object), *features.astype(object)]
    codes, _ = pd.factorize(pd.Series(both, dtype=object))
    return codes[: len(events)], codes[len(events) :]
