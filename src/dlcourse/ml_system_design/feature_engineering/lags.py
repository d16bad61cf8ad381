"""What an entity did before: lags and trailing means that see earlier rows only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from . import _checks


def lag_features(
    frame: pd.DataFrame,
    entity: str,
    time: str,
    columns: Sequence[str],
    lags: Sequence[int] = (1,),
    windows: Sequence[int] = (),
) -> pd.DataFrame:
    """For each row, values of the same entity's earlier rows.

    With x₁, x₂, … an entity's values in the order of time:

        lag_k(t) = x_{t−k}        mean_w(t) = mean of those of x_{t−1}, …, x_{t−w} that there are

    Neither holds x_t or what comes after it, so a feature is the same on the day as in hindsight.

    Args:
        frame: n rows in any order.
        entity: the column that says whose row it is; where it is missing, so are the features.
        time: the column of times or numbers; an entity has one row at a time.
        columns: the columns of numbers to look back on.
        lags: k ≥ 1, in rows of the entity.
        windows: w ≥ 1, in rows of the entity. Values that are missing do not count in a mean.

    Returns:
        float64 columns ``<column>_lag_<k>`` and ``<column>_mean_<w>``, with the rows and index of
        ``frame``, NaN where there is no earlier value.

    Raises:
        TypeError: a column that holds something else than numbers, or a k or w that is not whole.
        ValueError: a column that is not there, k or w < 1, a missing time, infinity, or two rows
            of an entity at one time: neither is the other's past, so aggregate them first.
    """
    _checks.table(frame, "frame")
    if isinstance(columns, str):
        raise TypeError(f"columns must be a list of names: got {columns!r}; write [{columns!r}]")
    _checks.present(frame, [entity, time, *columns], "frame")
    lags = [_checks.count(k, "each of lags") for k in lags]
    windows = [_checks.count(w, "each of windows") for w in windows]
    if not columns or not lags + windows:
        raise ValueError("name at least one column, and one lag or window")
    kind = _checks.kind_of(frame[time])
    if kind not in ("integer", "number", "datetime", "datetime with a zone", "empty"):
        raise TypeError(f"{time!r} must hold times or numbers: it holds {kind}")
    if frame[time].isna().any():
        raise ValueError(f"{time!r} has missing times: such a row has no past; drop it")
    known = frame[frame[entity].notna()]
    if known.duplicated([entity, time]).any():
        pair = known.loc[known.duplicated([entity, time]).to_numpy(), [entity, time]].iloc[0]
        raise ValueError(
            f"{entity} {pair[entity]!r} has several rows at {time} {pair[time]}: none of them is "
            "the past of another; aggregate them to one row first"
        )

    times = frame[time].reset_index(drop=True)
    order = times.sort_values(kind="stable").index.to_numpy()  # (n,)
    owner = frame[entity].astype(object).to_numpy()[order]
    made = {}
    for name in columns:
        values = pd.Series(_checks.numbers(frame[name], repr(name))[order])  # (n,) by time
        by_entity = values.groupby(owner)
        past = {k: by_entity.shift(k) for k in range(1, max(lags + windows) + 1)}  # x_{t−k}
        for k in lags:
            made[f"{name}_lag_{k}"] = past[k]
        for w in windows:
            window = pd.concat([past[k] for k in range(1, w + 1)], axis=1)  # (n, w)
            made[f"{name}_mean_{w}"] = window.mean(axis=1)
    back = np.argsort(order, kind="stable")  # where each row of frame stands in order of time
    features = pd.DataFrame(made, dtype=np.float64).iloc[back]
    features.index = frame.index
    return features
