"""Figures are numbered within their page, as they are in the learner's notebook of that page."""

from __future__ import annotations

import copy

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def restore_numbers(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Before Sphinx numbers: put back its own last numbers, so that it sees what has changed."""
    env.toc_fignumbers = getattr(env, "course_fignumbers", {})
    return []


def number_within_pages(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """After Sphinx numbered all figures of the book in a row: count from 1 on each page."""
    env.course_fignumbers = copy.deepcopy(env.toc_fignumbers)  # type: ignore[attr-defined]
    for kinds in env.toc_fignumbers.values():
        for numbers in kinds.values():
            for place, name in enumerate(sorted(numbers, key=numbers.get), start=1):
                numbers[name] = (place,)
    return []
