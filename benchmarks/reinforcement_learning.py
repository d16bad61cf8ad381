"""LinUCB beside mabwiser: a choice and an update per step, after a check that both choose alike.

    python benchmarks/reinforcement_learning.py [--quick]

On a CPU, one thread (set OMP_NUM_THREADS=1). Both see the same contexts, arms and rewards.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from mabwiser.mab import MAB, LearningPolicy

from dlcourse.reinforcement_learning import LinUCB


def steps(dim: int, arms: int, count: int) -> None:
    rng = np.random.default_rng(0)
    x, r = rng.standard_normal((arms, dim)), rng.standard_normal(arms)  # each arm seen once
    ours = LinUCB(arms, dim, 1.0)
    theirs = MAB(list(range(arms)), LearningPolicy.LinUCB(alpha=1.0, l2_lambda=1.0))
    ours.update_batch(x, np.arange(arms), r)
    theirs.fit(decisions=np.arange(arms), rewards=r, contexts=x)
    contexts = rng.standard_normal((count, dim))
    rewards = rng.standard_normal(count)
    seconds: dict[str, list[float]] = {"ours": [], "mabwiser": []}
    same = 0
    for context, reward in zip(contexts, rewards, strict=True):
        start = time.perf_counter()
        arm = ours.select(context)
        ours.update(context, arm, reward)
        middle = time.perf_counter()
        other = theirs.predict(context[None])
        theirs.partial_fit(decisions=[other], rewards=[reward], contexts=context[None])
        seconds["ours"].append(middle - start)
        seconds["mabwiser"].append(time.perf_counter() - middle)
        same += arm == other
    assert same == count, f"equal choices: {same} of {count}"
    print(f"LinUCB, {arms} arms, {dim} features: select and update, {count} steps, equal choices")
    for name, times in seconds.items():
        print(f"  {name:10} {1e3 * statistics.median(times):8.3f} ms a step")
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["mabwiser"], strict=True)]
    print(f"  mabwiser takes {statistics.median(ratios):.1f} times as long (median of the steps)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    steps(64, 100, 20 if parser.parse_args().quick else 200)


if __name__ == "__main__":
    main()
