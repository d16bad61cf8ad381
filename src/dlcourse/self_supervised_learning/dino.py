"""DINO and DINOv2: a student learns to predict its own moving average on other views of an image.

Chapter: ``120_self_supervised_learning/1b_dino``.

Papers:
    Caron et al. (2021), *Emerging Properties in Self-Supervised Vision Transformers* (DINO).
    Zhou et al. (2022), *iBOT: Image BERT Pre-Training with Online Tokenizer* (masked patches).
    Caron et al. (2020), *Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments* (SwAV: Sinkhorn–Knopp in three iterations, multi-crop).
    Sablayrolles et al. (2019), *Spreading Vectors for Similarity Search* (KoLeo).
    Oquab et al. (2024), *DINOv2: Learning Robust Visual Features without Supervision* (all of
    them together).

Read in this order: ``DINOHead`` (features to K scores), ``DINOLoss`` (teacher against student),
``update_teacher`` (the moving average), ``DINO`` (the three together). ``sinkhorn_knopp``,
``iBOTLoss`` and ``koleo_loss`` are what DINOv2 adds.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.self_supervised_learning.vision_transformer import initialize

__all__ = [
    "DINO",
    "DINOHead",
    "DINOLoss",
    "DINOTerms",
    "blob_masks",
    "iBOTLoss",
    "koleo_loss",
    "momentum_schedule",
    "sinkhorn_knopp",
    "update_teacher",
]

Centering = Literal["centering", "sinkhorn_knopp", "none"]


# --- The head --------------------------------------------------------------------------------


class DINOHead(nn.Module):
    """Features to the scores of K prototypes: (…, in_dim) → (…, out_dim), each in [−1, 1].

    An MLP with GELU down to a bottleneck; the bottleneck's vector is scaled to length 1 and
    compared with K prototypes of length 1. The comparison is a weight-normalised linear layer
    without bias whose gain is fixed at 1, so a score is a cosine: no prototype can win by growing.

    Args:
        in_dim: width of the encoder's features.
        out_dim: K, the number of prototypes.
        hidden_dim: width of the hidden layers.
        bottleneck_dim: width before the prototypes.
        layers: linear layers of the MLP, at least 1; with 1 there is no hidden layer.
        generator: draws the initial weights; by default torch's global generator.

    Raises ValueError for a size below 1.

    Source: Caron et al. (2021), section 3.1 and appendix C ("projection head").
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int = 65536,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        layers: int = 3,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = {
            "in_dim": in_dim,
            "out_dim": out_dim,
            "hidden_dim": hidden_dim,
            "bottleneck_dim": bottleneck_dim,
            "layers": layers,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.in_dim, self.out_dim = in_dim, out_dim
        widths = [in_dim, *[hidden_dim] * (layers - 1), bottleneck_dim]
        mlp: list[nn.Module] = []
        for width, following in itertools.pairwise(widths):
            mlp += [nn.Linear(width, following), nn.GELU()]
        self.mlp = nn.Sequential(*mlp[:-1])  # no GELU after the last
        self.prototypes = nn.Parameter(torch.empty(out_dim, bottleneck_dim))
        initialize(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        z = F.normalize(self.mlp(x), dim=-1)  # (…, bottleneck), length 1
        return F.linear(z, F.normalize(self.prototypes, dim=-1))  # (…, K)


# --- Two ways to keep the teacher from giving one answer to all ------------------------------


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Soft assignments that use all prototypes alike: (B, K) → (B, K), rows sum to 1.

    Starts from exp(logits / temperature) and scales, in turn, the columns to equal sums and the
    rows to sum 1. In the limit each column sums to B / K; after a few iterations nearly. It is
    computed in logarithms, so nothing can overflow or become 0 / 0. Where torch.distributed is
    initialised, B counts the rows of all ranks.

    Raises ValueError for logits that are not (B, K), temperature <= 0 or iterations < 1.

    Source: Caron et al. (2020), section 3.1; Oquab et al. (2024), section 4.
    """
    if logits.dim() != 2:
        raise ValueError(f"logits must be (B, K), got {tuple(logits.shape)}")
    if temperature <= 0 or iterations < 1:
        raise ValueError(
            f"need temperature > 0 and iterations >= 1, got {temperature} and {iterations}"
        )
    log_q = _full_precision(logits) / temperature
    row = log_q.new_zeros(len(log_q), 1)  # logarithm of what each row is multiplied by
    for _ in range(iterations):
        column = -_logsumexp_over_ranks(log_q + row)  # (1, K): now each column sums to 1
        row = -torch.logsumexp(log_q + column, 1, keepdim=True)  # (B, 1): and now each row
    return (log_q + row + column).exp()


def _full_precision(x: Tensor) -> Tensor:
    """float32, or float64 if it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _logsumexp_over_ranks(x: Tensor) -> Tensor:
    """log Σ exp(x) over the rows of all ranks: (B, K) → (1, K)."""
    if not _distributed():
        return torch.logsumexp(x, 0, keepdim=True)
    largest = x.amax(0, keepdim=True) if len(x) else x.new_full((1, x.shape[1]), -math.inf)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    total = (x - largest).exp().sum(0, keepdim=True)
    dist.all_reduce(total)
    return largest + total.log()


def _mean_over_ranks(x: Tensor) -> Tensor:
    """Mean of the rows of all ranks, which may hold different numbers of them: (B, K) → (K,)."""
    total = x.sum(0)
    count = total.new_full((1,), len(x))
    if _distributed():
        both = torch.cat([total, count])
        dist.all_reduce(both)
        total, count = both[:-1], both[-1:]
    return total / count.clamp(min=1)


class _Teacher(nn.Module):
    """What ``DINOLoss`` and ``iBOTLoss`` share: from the teacher's scores to its distribution."""

    center: Tensor

    def __init__(
        self,
        out_dim: int,
        *,
        student_temp: float = 0.1,
        teacher_temp: float = 0.07,
        warmup_teacher_temp: float = 0.04,
        warmup_steps: int = 0,
        center_momentum: float = 0.9,
        centering: Centering = "centering",
    ) -> None:
        super().__init__()
        if out_dim < 1 or warmup_steps < 0:
            raise ValueError(
                f"need out_dim >= 1 and warmup_steps >= 0, got {out_dim} and {warmup_steps}"
            )
        if min(student_temp, teacher_temp, warmup_teacher_temp) <= 0:
            raise ValueError(
                "temperatures must be positive, got "
                f"{student_temp}, {teacher_temp} and {warmup_teacher_temp}"
            )
        if not 0 <= center_momentum < 1:
            raise ValueError(f"center_momentum must lie in [0, 1), got {center_momentum}")
        if centering not in get_args(Centering):
            raise ValueError(f"centering must be one of {get_args(Centering)}, got {centering!r}")
        self.out_dim, self.student_temp, self.teacher_temp = out_dim, student_temp, teacher_temp
        self.warmup_teacher_temp, self.warmup_steps = warmup_teacher_temp, warmup_steps
        self.center_momentum, self.centering = center_momentum, centering
        self.register_buffer("center", torch.zeros(out_dim))

    def temperature(self, step: int) -> float:
        """The teacher's: linear from warmup_teacher_temp at step 0, constant after warmup_steps."""
        if step >= self.warmup_steps:
            return self.teacher_temp
        share = step / self.warmup_steps
        return self.warmup_teacher_temp + share * (self.teacher_temp - self.warmup_teacher_temp)

    @torch.no_grad()
    def probabilities(self, outputs: Tensor, step: int = 0) -> Tensor:
        """The teacher's distributions, a constant for the gradient: (B, K) → (B, K)."""
        if self.centering == "sinkhorn_knopp":
            return sinkhorn_knopp(outputs, self.temperature(step))
        # Pₜ = softmax((gₜ − c) / τₜ); the centre stays 0 with "none"
        return F.softmax((_full_precision(outputs) - self.center) / self.temperature(step), dim=-1)

    @torch.no_grad()
    def update_center(self, outputs: Tensor) -> None:
        """c ← m c + (1 − m) mean of the teacher's outputs, over all ranks. (B, K)."""
        if self.centering == "centering":
            mean = _mean_over_ranks(outputs.to(self.center.dtype))
            self.center.lerp_(mean, 1 - self.center_momentum)

    def _check(self, name: str, outputs: Tensor) -> None:
        if outputs.dim() != 2 or outputs.shape[1] != self.out_dim:
            raise ValueError(
                f"{name} must be (B, out_dim = {self.out_dim}), got {tuple(outputs.shape)}"
            )


# --- The losses ------------------------------------------------------------------------------


class DINOLoss(_Teacher):
    """Cross-entropy between the teacher on one view and the student on another one.

    With the scores gₜ, gₛ of the two networks,

        Pₜ = softmax((gₜ − c) / τₜ),   Pₛ = softmax(gₛ / τₛ),
        loss = mean over pairs of views t ≠ s and images of  −Σₖ Pₜ⁽ᵏ⁾ log Pₛ⁽ᵏ⁾.

    Args:
        out_dim: K.
        student_temp: τₛ.
        teacher_temp: τₜ after the warm-up; smaller than τₛ, or nothing sharpens.
        warmup_teacher_temp: τₜ at step 0.
        warmup_steps: steps in which τₜ moves linearly from one to the other.
        center_momentum: m in c ← m c + (1 − m) · mean of the teacher's scores.
        centering: "centering" (DINO), "sinkhorn_knopp" (DINOv2) or "none" (which collapses).

    ``center`` is a buffer: it is saved, and it is the same on all ranks.

    Source: Caron et al. (2021), equations 1 to 4 and algorithm 1.
    """

    def forward(
        self,
        student_outputs: Sequence[Tensor],
        teacher_outputs: Sequence[Tensor],
        step: int = 0,
    ) -> Tensor:
        """The loss, a scalar; afterwards, in training mode, the centre takes in this batch.

        Args:
            student_outputs: the student's scores, one (B, K) for each view.
            teacher_outputs: the teacher's, one (B, K) for each global view. They belong to the
                *first* views of the student, in the same order: pair (i, i) is the same view
                twice, and is left out.
            step: steps taken so far, for the teacher's temperature.

        Raises ValueError when no pair of different views is left, or a shape does not fit.
        """
        if len(teacher_outputs) < 1 or len(student_outputs) < max(2, len(teacher_outputs)):
            raise ValueError(
                "the student sees every view of the teacher and at least one other: got "
                f"{len(student_outputs)} student and {len(teacher_outputs)} teacher views"
            )
        for outputs in (*student_outputs, *teacher_outputs):
            self._check("outputs", outputs)
            if len(outputs) != len(teacher_outputs[0]):
                raise ValueError("all views must show the same B images, in the same order")

        teacher = torch.cat(list(teacher_outputs)).detach()  # (T·B, K)
        student = torch.stack(list(student_outputs))  # (S, B, K)
        p = self.probabilities(teacher, step).unflatten(0, (len(teacher_outputs), -1))  # (T, B, K)
        log_q = F.log_softmax(student.to(p.dtype) / self.student_temp, dim=-1)  # (S, B, K)
        pairs = [(t, s) for t in range(len(p)) for s in range(len(log_q)) if t != s]
        # −Σₖ Pₜ log Pₛ, averaged over images and pairs of views
        loss = sum(-(p[t] * log_q[s]).sum(-1).mean() for t, s in pairs) / len(pairs)
        if self.training:
            self.update_center(teacher)
        return loss


class iBOTLoss(_Teacher):
    """The same cross-entropy for patches that are hidden from the student and not from the teacher.

        loss = 1/B Σᵢ 1/nᵢ Σ over the nᵢ hidden patches of image i of  −Σₖ Pₜ⁽ᵏ⁾ log Pₛ⁽ᵏ⁾

    so each image counts the same, however many of its patches are hidden. An image with none of
    them hidden adds nothing, and is counted in B.

    Arguments as those of ``DINOLoss``. Centre and Sinkhorn–Knopp act on patches, not on images.

    Source: Zhou et al. (2022), section 3; Oquab et al. (2024), section 4.
    """

    def forward(
        self, student_outputs: Tensor, teacher_outputs: Tensor, mask: Tensor, step: int = 0
    ) -> Tensor:
        """The loss, a scalar; afterwards, in training mode, the centre takes in this batch.

        Args:
            student_outputs, teacher_outputs: (M, K), the scores at the M hidden patches, image by
                image: ``head(tokens[mask])`` (what is visible need not pass the head).
            mask: (B, N), true where the student's patch was hidden; M of them are true.
            step: steps taken so far, for the teacher's temperature.

        Raises ValueError when a shape does not fit.
        """
        self._check("student_outputs", student_outputs)
        self._check("teacher_outputs", teacher_outputs)
        if student_outputs.shape != teacher_outputs.shape:
            raise ValueError(
                f"student and teacher must give the same patches, got {len(student_outputs)} "
                f"and {len(teacher_outputs)}"
            )
        if mask.dim() != 2:
            raise ValueError(f"mask must be (B, N), got {tuple(mask.shape)}")
        mask = mask.bool()
        hidden = mask.sum(1, keepdim=True).clamp(min=1)  # (B, 1): nᵢ
        weight = (1 / hidden).expand(mask.shape)[mask]  # (M,)
        if len(weight) != len(student_outputs):
            raise ValueError(
                f"{len(weight)} patches are hidden in the mask, {len(student_outputs)} were given: "
                "pass tokens[mask] through the head, and the same mask here"
            )
        teacher = teacher_outputs.detach()
        cross_entropy = self.cross_entropy(student_outputs, teacher, step)
        weight = weight.to(cross_entropy.device, cross_entropy.dtype, non_blocking=True)
        loss = (cross_entropy * weight).sum() / len(mask)
        if self.training:
            self.update_center(teacher)
        return loss

    def cross_entropy(self, student_outputs: Tensor, teacher_outputs: Tensor, step: int) -> Tensor:
        """−Σₖ Pₜ log Pₛ of each patch: (M, K), (M, K) → (M,)."""
        p = self.probabilities(teacher_outputs, step)
        log_q = F.log_softmax(student_outputs.to(p.dtype) / self.student_temp, dim=-1)
        return -(p * log_q).sum(-1)


def koleo_loss(x: Tensor, eps: float = 1e-8) -> Tensor:
    """How close each feature has its nearest neighbour in the batch: (B, D) → scalar.

        −1/B Σᵢ log minⱼ≠ᵢ ‖xᵢ − xⱼ‖   for features scaled to length 1

    It is an estimate of minus the entropy of the features (Kozachenko and Leonenko 1987, hence
    the name), so making it small spreads them over the sphere. Give it one view of each image:
    the nearest neighbour of a view would be the other view.

    Raises ValueError for a batch of one, or features that are not (B, D).

    Source: Sablayrolles et al. (2019), section 3; Oquab et al. (2024), section 4.
    """
    if x.dim() != 2 or len(x) < 2:
        raise ValueError(
            f"KoLeo needs (B, D) with B >= 2, got {tuple(x.shape)}: one image has no neighbour"
        )
    with torch.autocast(x.device.type, enabled=False):  # a distance is a difference: float32
        x = F.normalize(_full_precision(x), dim=-1)
        with torch.no_grad():  # on the sphere the nearest has the largest inner product
            similarity = x @ x.T
            similarity.fill_diagonal_(-2)
            nearest = similarity.argmax(1)
        distance = (x - x[nearest]).norm(dim=-1)  # (B,)
        return -(distance + eps).log().mean()


# --- The teacher -----------------------------------------------------------------------------


@torch.no_grad()
def update_teacher(student: nn.Module, teacher: nn.Module, momentum: float) -> None:
    """Move the teacher's weights towards the student's, in place: θₜ ← m θₜ + (1 − m) θₛ.

    Parameters are averaged; buffers (running statistics, counters) are copied.

    Both must be float32 or wider: in bfloat16 a change of 0.4 % is rounded away, and a teacher
    with momentum 0.996 stands still.

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

    Source: Grill et al. (2020, BYOL), section 3.3; Caron et al. (2021), section 3.1.
    """
    if total < 1 or not 0 <= step <= total:
        raise ValueError(f"step must lie in 0 … total, got step {step} of {total}")
    if not (0 <= start <= 1 and 0 <= end <= 1):
        raise ValueError(f"start and end must lie in [0, 1], got {start} and {end}")
    return end - (end - start) * (1 + math.cos(math.pi * step / total)) / 2


# --- All together ----------------------------------------------------------------------------


def blob_masks(
    n: int,
    grid: tuple[int, int],
    generator: torch.Generator,
    *,
    share: tuple[float, float] = (0.1, 0.5),
    probability: float = 0.5,
) -> Tensor:
    """Which patches iBOT hides: (n, rows · columns), bool; on the generator's device.

    A share ``probability`` of the images, drawn at random, has patches hidden; how large a part of
    them grows evenly over those images from the first to the second value of ``share``. So every
    batch hides the same *number* of patches, and the shapes of a step never change (as in DINOv2).
    What is hidden hangs together: the patches with the lowest values of a smooth random field.
    (DINOv2 hides rectangles. The purpose is the same: a patch should not be guessed from the one
    beside it.)

    Raises ValueError for a count or share out of range.
    """
    rows, columns = grid
    low, high = share
    if n < 1 or rows < 1 or columns < 1:
        raise ValueError(f"need n >= 1 and a grid of patches, got n = {n} and {grid}")
    if not (0 < low <= high < 1 and 0 <= probability <= 1):
        raise ValueError(
            "need 0 < share[0] <= share[1] < 1 and probability in [0, 1], "
            f"got {share} and {probability}"
        )
    device = generator.device
    masked = round(probability * n)
    counts = (torch.linspace(low, high, masked, device=device) * rows * columns).round()
    counts = torch.cat([counts, counts.new_zeros(n - masked)])  # (n,)
    counts = counts[torch.randperm(n, generator=generator, device=device)]
    coarse = [max(2, math.ceil(side / 3)) for side in grid]
    field = torch.randn(n, 1, *coarse, generator=generator, device=device)
    field = F.interpolate(field, size=grid, mode="bilinear").flatten(1)  # (n, N)
    ranks = field.argsort(1).argsort(1)
    return ranks < counts[:, None]


class DINOTerms(NamedTuple):
    """The loss of a step and its parts, each a scalar; a part that is off is 0."""

    total: Tensor
    dino: Tensor
    ibot: Tensor
    koleo: Tensor


class DINO(nn.Module):
    """A student and its teacher; called with the views of a batch, it gives the student's loss.

    Args:
        encoder: images (B, C, H, W) → features (B, D). With ``patch_head`` it must also have
            ``forward_features(images, mask)`` → (B, 1 + N, D), as ``VisionTransformer`` has.
        head: of the class token.
        loss: with the head's out_dim.
        patch_head, patch_loss: iBOT's; both or neither. DINOv2 does not share the two heads.
        ibot_weight: of iBOT's term (DINOv2: 1).
        koleo_weight: of ``koleo_loss`` on the student's class tokens, summed over the global views
            (DINOv2: 0.1; 0 leaves it out).

    ``student`` and ``teacher`` are ``nn.ModuleDict`` of encoder and heads. The teacher starts as a
    copy, never requires a gradient, and stays in eval mode; ``update_teacher(momentum)`` moves
    it, after the optimizer's step. The features to use later are those of ``teacher["encoder"]``.

    Raises ValueError when head and loss do not fit, or one of iBOT's two parts is missing.

    Source: Caron et al. (2021), algorithm 1; Oquab et al. (2024), section 4.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: DINOHead,
        loss: DINOLoss,
        *,
        patch_head: DINOHead | None = None,
        patch_loss: iBOTLoss | None = None,
        ibot_weight: float = 1.0,
        koleo_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if (patch_head is None) != (patch_loss is None):
            raise ValueError("iBOT needs both patch_head and patch_loss")
        for h, criterion in ((head, loss), (patch_head, patch_loss)):
            if h is not None and h.out_dim != criterion.out_dim:
                raise ValueError(
                    f"the head has {h.out_dim} outputs, its loss expects {criterion.out_dim}"
                )
        if ibot_weight < 0 or koleo_weight < 0:
            raise ValueError(f"weights must be >= 0, got {ibot_weight} and {koleo_weight}")
        parts = {"encoder": encoder, "head": head}
        if patch_head is not None:
            parts["patch_head"] = patch_head
        self.student = nn.ModuleDict(parts)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.loss, self.patch_loss = loss, patch_loss
        self.ibot_weight, self.koleo_weight = ibot_weight, koleo_weight

    def train(self, mode: bool = True) -> DINO:
        super().train(mode)
        self.teacher.eval()
        return self

    def update_teacher(self, momentum: float) -> None:
        """θₜ ← m θₜ + (1 − m) θₛ for encoder and heads: ``update_teacher``, the function."""
        update_teacher(self.student, self.teacher, momentum)

    def forward(
        self,
        global_views: Sequence[Tensor],
        local_views: Sequence[Tensor] = (),
        *,
        mask: Tensor | None = None,
        step: int = 0,
    ) -> DINOTerms:
        """The loss of one batch.

        Args:
            global_views: V batches (B, C, H, W) of the same images; teacher and student see them.
            local_views: any number of further batches, smaller ones, for the student alone.
            mask: (V·B, N), true where a patch of the global views is hidden from the student,
                view by view; needed for iBOT, as ``blob_masks`` gives it. Leave it on the CPU: its
                positions are read there, and a GPU need not be waited for.
            step: steps taken so far, for the teacher's temperature.

        Raises ValueError when the mask is missing or not wanted, or there are no two views.
        """
        if (mask is None) != (self.patch_loss is None):
            raise ValueError("iBOT needs a mask, as blob_masks gives it, and nothing else does")
        if not global_views:
            raise ValueError("the teacher needs at least one global view")
        images = torch.cat(list(global_views))  # (V·B, C, H, W)
        if mask is not None and len(mask) != len(images):
            raise ValueError(
                f"the mask must have a row for each of the {len(images)} global views, "
                f"got {len(mask)}"
            )
        with torch.no_grad():  # the teacher: global views, whole, no gradient
            teacher_class, teacher_patches = self._encode(self.teacher, images)
            teacher = self.teacher["head"](teacher_class)  # (V·B, K)

        # The student: global views with patches hidden, then the others, one pass for each size.
        student_class, student_patches = self._encode(self.student, images, mask)
        tokens = [student_class]
        for _, group in itertools.groupby(local_views, key=lambda view: view.shape[-2:]):
            tokens.append(self._encode(self.student, torch.cat(list(group)))[0])
        student = self.student["head"](torch.cat(tokens))  # ((V + L)·B, K)
        b = len(global_views[0])
        dino = self.loss(student.split(b), teacher.split(b), step)

        ibot = koleo = dino.new_zeros(())
        if mask is not None:
            hidden = mask.flatten().nonzero()[:, 0].to(images.device, non_blocking=True)
            with torch.no_grad():
                target = self.teacher["patch_head"](teacher_patches.flatten(0, 1)[hidden])  # (M, K)
            guess = self.student["patch_head"](student_patches.flatten(0, 1)[hidden])
            ibot = self.patch_loss(guess, target, mask, step)
        if self.koleo_weight:
            koleo = sum(koleo_loss(view) for view in student_class.split(b))
        total = dino + self.ibot_weight * ibot + self.koleo_weight * koleo
        return DINOTerms(total, dino, ibot, koleo)

    def _encode(
        self, network: nn.ModuleDict, images: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Class token (B, D), and patch tokens (B, N, D) where iBOT needs them."""
        if self.patch_loss is None:
            return network["encoder"](images), None
        mask = mask if mask is None else mask.to(images.device, non_blocking=True)
        tokens = network["encoder"].forward_features(images, mask)
        return tokens[:, 0], tokens[:, 1:]
