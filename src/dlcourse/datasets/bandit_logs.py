"""Open Bandit: 60,000 logged choices of a fashion shop's recommender, from obp's wheel."""

from __future__ import annotations

import csv
import functools
import io
from typing import TYPE_CHECKING, NamedTuple

from dlcourse.datasets.packages import Wheel, open_archive

if TYPE_CHECKING:
    import numpy as np

OPEN_BANDIT = Wheel(
    name="open-bandit",
    file="obp-0.4.1-py3-none-any.whl",
    sha256="87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208",
    size=1_338_290,
    licence="not stated in the package (its code: Apache-2.0); the data are commonly given as "
    "CC BY 4.0",
    credit=(
        "Open Bandit Dataset (Saito, Aihara, Matsutani and Narita; ZOZO, Inc.; commonly given as "
        "CC BY 4.0), the sample that ships in obp 0.4.1."
    ),
)
ARCHIVES = (OPEN_BANDIT,)
CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")
NUM_ITEMS = {"all": 80, "men": 34, "women": 46}


class BanditLog(NamedTuple):
    """N logged choices in the order of time. A page has three positions, one item in each."""

    timestamp: np.ndarray  # datetime64[us] (N,), UTC
    item: np.ndarray  # int64 (N,), 0 … num_items − 1
    position: np.ndarray  # int64 (N,): 0 left, 1 middle, 2 right
    click: np.ndarray  # float64 (N,), 0 or 1
    propensity: np.ndarray  # float64 (N,), of the item that was shown at its position
    user: np.ndarray  # int64 (N, 4), the user's anonymous categories as numbers
    affinity: np.ndarray  # float32 (N, num_items), the user's past clicks of each item
    num_items: int


def open_bandit(campaign: str = "all", policy: str = "random") -> BanditLog:
    """One of six logs of 10,000 rows, 24 to 30 November 2019.

    Two policies ran in each campaign: "random" takes each item with the same probability, "bts" is
    Bernoulli Thompson sampling. A log has few clicks, 38 to 69. The data are made to study
    estimators: each policy's own click rate judges what the other's log says of it. The two rates
    differ beyond a 95 % interval in "men" only (rows taken as independent).

    The propensities of "bts" are Monte Carlo estimates from 200,000 draws, to judge by their grid
    of 5e-6. In "women" one is 1e-6, off this grid: clip its weight.

    Args:
        campaign: "all" (80 items), "men" (34) or "women" (46).
        policy: "random" or "bts".

    Raises:
        FetchError: the wheel is not in the cache and could not be fetched.
        ValueError: another campaign or policy.

    Licence: not stated in the package; commonly given as CC BY 4.0. A page that shows the data
    shows ``credit("open-bandit")``.

    Source: Y. Saito, S. Aihara, M. Matsutani and Y. Narita (2021), Open Bandit Dataset and Pipeline:
    Towards Realistic and Reproducible Off-Policy Evaluation, NeurIPS Datasets and Benchmarks,
    https://doi.org/10.48550/arXiv.2008.07146.
    """
    if campaign not in CAMPAIGNS:
        raise ValueError(f"campaign must be one of {', '.join(CAMPAIGNS)}: got {campaign!r}")
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}: got {policy!r}")
    log = _read(campaign, policy)
    return BanditLog(*(column.copy() for column in log[:-1]), log.num_items)


@functools.cache
def _read(campaign: str, policy: str) -> BanditLog:
    import numpy as np

    with open_archive(OPEN_BANDIT) as files:
        text = files.read(f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv").decode("utf8")
    header, *rows = csv.reader(io.StringIO(text))
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    n = NUM_ITEMS[campaign]
    users = [np.unique(columns[f"user_feature_{k}"], return_inverse=True)[1] for k in range(4)]
    affinity = [np.array(columns[f"user-item_affinity_{k}"], dtype=np.float32) for k in range(n)]
    times = [text.removesuffix("+00:00") for text in columns["timestamp"]]
    order = np.argsort(np.array(times, dtype="datetime64[us]"), kind="stable")
    return BanditLog(
        np.array(times, dtype="datetime64[us]")[order],
        np.array(columns["item_id"], dtype=np.int64)[order],
        np.array(columns["position"], dtype=np.int64)[order] - 1,
        np.array(columns["click"], dtype=np.float64)[order],
        np.array(columns["propensity_score"], dtype=np.float64)[order],
        np.stack(users, 1)[order].astype(np.int64),
        np.stack(affinity, 1)[order],
        n,
    )
