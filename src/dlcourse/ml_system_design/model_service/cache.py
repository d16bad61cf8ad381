"""A cache that forgets what was not asked for the longest."""

from __future__ import annotations

from collections import OrderedDict

from numpy.typing import NDArray


class AnswerCache:
    """At most ``size`` answers by key, the least recently used first to go; 0 keeps none."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._answers: OrderedDict[str, NDArray] = OrderedDict()  # oldest use first

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> NDArray | None:
        """The answer, which is then the most recently used, or None."""
        if key not in self._answers:
            return None
        self._answers.move_to_end(key)
        return self._answers[key]

    def put(self, key: str, answer: NDArray) -> None:
        """Keep an answer, and let go of the least recently used one where there are too many."""
        self._answers[key] = answer
        self._answers.move_to_end(key)
        if len(self._answers) > self.size:
            self._answers.popitem(last=False)
