"""The teacher: a moving average of the student, and the momentum of the average.

Chapter: ``120_self_supervised_learning/1b_dino``.

Papers:
    Caron et al. (2021), *Emerging Properties in Self-Supervised Vision Transformers*, section 3.1.
    Grill et al. (2020), *Bootstrap Your Own Latent* (BYOL; the schedule of the momentum).
"""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["momentum_schedule", "update_teacher"]


@torch.no_grad()
def update_teacher(student: nn.Module, teacher: nn.Module, momentum: float) -> None:
    """Move the teacher's weights towards the student's, in place: θₜ ← m θₜ + (1 − m) θₛ.

    Parameters are averaged; buffers (running statistics, counters) are copied. DINO's code averages
    parameters alone: its teacher stays in training mode, with running statistics of its own.

    Both should be float32 or wider. An update moves a weight by 1 − m of the *difference* between
    student and teacher. With momentum 0.996 that is 0.4 % of the difference, and neighbouring
    bfloat16 numbers lie 0.4 to 0.8 % of the weight apart: a teacher that is near its student, as
    it is all through training, is rounded back to where it was.

    Args:
        momentum: m in [0, 1]; 0 copies the student, 1 leaves the teacher alone.

    Raises ValueError when the momentum is out of range, or the two modules differ: the first
    parameter or buffer that does not fit is named, and nothing has been changed.

    Source: Caron et al. (2021), section 3.1 ("teacher network").
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
    theirs, ours = [], []
    for kind in ("parameters", "buffers"):
        source = dict(getattr(student, f"named_{kind}")())
        target = dict(getattr(teacher, f"named_{kind}")())
        for name in source | target:
            a, b = source.get(name), target.get(name)
            if a is None or b is None:
                owner = "teacher" if b is None else "student"
                raise ValueError(
                    f"the {owner} has no {kind[:-1]} {name!r}: make it with copy.deepcopy"
                )
            if a.shape != b.shape or a.dtype != b.dtype:
                raise ValueError(
                    f"{name!r} is {tuple(a.shape)}, {a.dtype} in the student and "
                    f"{tuple(b.shape)}, {b.dtype} in the teacher: make it with copy.deepcopy"
                )
        theirs.append(list(source.values()))
        ours.append([target[name] for name in source])
    torch._foreach_lerp_(ours[0], theirs[0], 1 - momentum)  # one call for all tensors
    for target, source in zip(ours[1], theirs[1], strict=True):
        target.copy_(source)


def momentum_schedule(step: int, total: int, start: float = 0.996, end: float = 1.0) -> float:
    """The teacher's momentum after ``step`` of ``total`` steps: half a cosine from start to end.

    Raises ValueError when step is outside of 0 … total, or start or end outside of [0, 1].

    The defaults are BYOL's and DINO's for large batches; DINOv2's code starts at 0.992, and at
    0.994 for its large models.

    Source: Grill et al. (2020, BYOL), section 3.3; Caron et al. (2021), section 3.1.
    """
    if total < 1 or not 0 <= step <= total:
        raise ValueError(f"step must lie in 0 … total, got step {step} of {total}")
    if not (0 <= start <= 1 and 0 <= end <= 1):
        raise ValueError(f"start and end must lie in [0, 1], got {start} and {end}")
    return end - (end - start) * (1 + math.cos(math.pi * step / total)) / 2
