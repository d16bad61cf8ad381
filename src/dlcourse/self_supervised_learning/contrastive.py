"""Contrastive learning: the NT-Xent loss, SimCLR, and two numbers that tell what the loss does.

Chapter: ``120_self_supervised_learning/1a_contrastive``.

Papers:
    Chen et al. (2020), *A Simple Framework for Contrastive Learning of Visual Representations*
    (SimCLR, NT-Xent: equation 1 and algorithm 1).
    van den Oord, Li, Vinyals (2018), *Representation Learning with Contrastive Predictive Coding*
    (InfoNCE, the loss of which NT-Xent is a form).
    Wang, Isola (2020), *Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere* (the two numbers).

Read ``nt_xent_reference`` first: it is the equation, as a double loop. ``nt_xent`` computes the
same as one cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.self_supervised_learning.vision_transformer import check_images

__all__ = [
    "ConvNet",
    "SimCLR",
    "alignment",
    "gather_across_processes",
    "nt_xent",
    "nt_xent_reference",
    "uniformity",
]


# --- The loss --------------------------------------------------------------------------------


def nt_xent_reference(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """NT-Xent as the paper writes it, one anchor and one similarity after the other.

    Arguments, result and errors are those of ``nt_xent``. It is slow, and its ``exp`` overflows at
    small temperatures: it is there to be read, and to be compared with.

    Source: Chen et al. (2020), equation 1 and algorithm 1.
    """
    _check_pairs(z1, z2, temperature)
    b = len(z1)
    z = torch.cat([z1, z2])  # (2B, D): i and i + B are the two views of one image
    total = z.new_zeros(())
    for i in range(2 * b):
        j = (i + b) % (2 * b)
        positive, denominator = z.new_zeros(()), z.new_zeros(())
        for k in range(2 * b):
            if k == i:  # [k ≠ i]: a view is no partner for itself
                continue
            # s_ik = z_iᵀ z_k / (‖z_i‖ ‖z_k‖)
            similarity = z[i] @ z[k] / (z[i].norm() * z[k].norm())
            term = torch.exp(similarity / temperature)
            denominator = denominator + term
            if k == j:
                positive = term
        # ℓ_ij = −log( exp(s_ij / τ) / Σ_{k ≠ i} exp(s_ik / τ) )
        total = total - torch.log(positive / denominator)
    # L = 1 / 2B · Σ ℓ_ij, over both directions of every pair
    return total / (2 * b)


def nt_xent(z1: Tensor, z2: Tensor, temperature: float | Tensor = 0.5) -> Tensor:
    """Normalised temperature-scaled cross-entropy over the pairs of a batch, in nats: a scalar.

    Each of the 2B views asks which of the other 2B − 1 is its partner. The views need not be
    normalised: only their directions count. The arithmetic is done in float32 or better, also
    for half-precision views and under autocast.

    Args:
        z1, z2: (B, D) floating point, B >= 2. Row i of both comes from image i.
        temperature: τ > 0; a 0-dimensional tensor may be given, and then gets a gradient.

    Raises:
        TypeError: z1 or z2 is not floating point.
        ValueError: the shapes differ or are not (B, D), B is 1, or τ is not positive.

    Source: Chen et al. (2020), equation 1.
    """
    _check_pairs(z1, z2, temperature)
    b = len(z1)
    z = torch.cat([z1, z2])  # (2B, D)
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    with torch.autocast(z.device.type, enabled=False):
        z = F.normalize(z, dim=1)
        logits = z @ z.T / temperature  # (2B, 2B), s_ik / τ
        itself = torch.eye(2 * b, dtype=torch.bool, device=z.device)
        logits = logits.masked_fill(itself, -math.inf)  # exp(−∞) = 0: leaves the sum
        partner = torch.arange(2 * b, device=z.device).roll(b)  # b, …, 2b − 1, 0, …, b − 1
        return F.cross_entropy(logits, partner)


def _check_pairs(z1: Tensor, z2: Tensor, temperature: float | Tensor = 1.0) -> None:
    for z in (z1, z2):
        if not z.is_floating_point():
            raise TypeError(f"views must be floating point, got {z.dtype}: pass projections")
    if z1.dim() != 2 or z1.shape != z2.shape:
        raise ValueError(
            "views must be (B, D), and row i of both from image i: got shapes "
            f"{tuple(z1.shape)} and {tuple(z2.shape)}"
        )
    if len(z1) < 2:
        raise ValueError(
            f"a contrastive loss needs other images to contrast with, got a batch of {len(z1)}: "
            "use at least 2 images, better hundreds"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {float(temperature):g}")


class _AllGather(torch.autograd.Function):
    """Rows of all processes, in the order of their ranks; the gradient finds its way back."""

    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        ctx.rows = len(z)
        parts = [torch.empty_like(z) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # Every process used every row: a row's gradient is the sum of what all of them found.
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        first = dist.get_rank() * ctx.rows
        return gradient[first : first + ctx.rows]


def gather_across_processes(z: Tensor) -> Tensor:
    """The views of all processes: (B, D) → (world size · B, D), differentiable.

    Without a process group, or with one process, z itself. B must be the same on every rank.
    If every rank computes ``nt_xent(gather_across_processes(z1), gather_across_processes(z2))``
    and DistributedDataParallel averages the gradients, they are those of one process that has the
    whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z
    return _AllGather.apply(z)


# --- The model -------------------------------------------------------------------------------


class SimCLR(nn.Module):
    """Encoder and projection head, trained to recognise two views of one image.

    ``forward(view1, view2)`` takes two batches of images (B, C, H, W) and returns the loss. The
    encoder's features h are what one keeps; the head, z = W₂ relu(W₁ h + b₁) + b₂, serves the
    loss alone and is thrown away. Where a process group is open, images of all processes are
    contrasted.

    Args:
        encoder: images (B, C, H, W) → (B, D), with the attribute ``embed_dim`` = D.
        projection_dim: width of z.
        hidden_dim: width of the head's hidden layer; by default D.
        temperature: τ > 0 of the loss.
        generator: draws the head's initial weights (He et al. 2015); by default torch's global
            generator.

    Raises:
        ValueError: the encoder has no embed_dim, a width or τ is out of range; when called: views
            of different shapes, or a batch of one.

    Source: Chen et al. (2020), section 2.1.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projection_dim: int = 128,
        hidden_dim: int | None = None,
        temperature: float = 0.5,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        feature_dim = getattr(encoder, "embed_dim", None)
        if not isinstance(feature_dim, int):
            raise ValueError(
                "the encoder must say how wide its features are: set encoder.embed_dim, for a "
                "ResNet-50 without its classifier to 2048"
            )
        hidden_dim = feature_dim if hidden_dim is None else hidden_dim
        if projection_dim < 1 or hidden_dim < 1:
            raise ValueError(
                f"projection_dim and hidden_dim must be at least 1: {projection_dim}, {hidden_dim}"
            )
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature:g}")
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Linear(feature_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, projection_dim)
        )
        _he_initialize(self.head, generator)
        self.temperature = temperature

    def represent(self, images: Tensor) -> Tensor:
        """The features to keep, from before the head: (B, C, H, W) → (B, D)."""
        return self.encoder(images)

    def project(self, images: Tensor) -> Tensor:
        """What the loss compares: (B, C, H, W) → (B, projection_dim)."""
        return self.head(self.encoder(images))

    def forward(self, view1: Tensor, view2: Tensor) -> Tensor:
        if view1.shape != view2.shape:
            raise ValueError(
                "the views must be of one shape, image i in row i of both: got "
                f"{tuple(view1.shape)} and {tuple(view2.shape)}"
            )
        # One pass for both views: BatchNorm's statistics then do not tell the one from the other.
        z1, z2 = self.project(torch.cat([view1, view2])).chunk(2)  # each (B, projection_dim)
        z1, z2 = gather_across_processes(z1), gather_across_processes(z2)
        return nt_xent(z1, z2, self.temperature)


class ConvNet(nn.Module):
    """A small encoder for small images: (B, C, H, W) → (B, embed_dim).

    Each stage is a 3 × 3 convolution, BatchNorm and ReLU; from the second on, a stage halves the
    side of the map. At the end each channel is averaged over its map.

    Args:
        in_channels: C.
        widths: channels of each stage; embed_dim is the last.
        generator: draws the initial weights (He et al. 2015); by default torch's global generator.

    Raises ValueError for a count below 1 and, when called, for images of another number of
    channels; TypeError, when called, for images that are not floating point.
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (16, 32, 64),
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not widths or min(in_channels, *widths) < 1:
            raise ValueError(
                f"need in_channels >= 1 and widths >= 1, got {in_channels} and {tuple(widths)}"
            )
        self.in_channels, self.embed_dim = in_channels, widths[-1]
        layers: list[nn.Module] = []
        for stage, width in enumerate(widths):
            layers += [
                nn.Conv2d(in_channels, width, 3, 1 if stage == 0 else 2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            in_channels = width
        self.layers = nn.Sequential(*layers)
        _he_initialize(self, generator)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, self.in_channels)
        # Channels last in memory: the same numbers, and faster convolutions.
        maps = self.layers(images.contiguous(memory_format=torch.channels_last))  # (B, D, H', W')
        return maps.mean((2, 3))


def _he_initialize(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """New weights for all convolutions and linear layers, in place: normal, variance 2 / fan-in.

    Biases become 0. Source: He et al. (2015), section 2.2.
    """
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


# --- What the loss does to the sphere --------------------------------------------------------


def alignment(z1: Tensor, z2: Tensor, alpha: float = 2.0) -> Tensor:
    """Mean distance between the views of one image, to the power α: a scalar in [0, 2^α].

    0 says that the representation does not change with the augmentation.

    Args:
        z1, z2: (B, D) floating point; normalised inside.
        alpha: α > 0.

    Raises TypeError or ValueError as ``nt_xent`` does; ValueError for α <= 0.

    Source: Wang, Isola (2020), equation for L_align in section 4.
    """
    _check_pairs(z1, z2)
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha:g}")
    return (F.normalize(z1, dim=1) - F.normalize(z2, dim=1)).norm(dim=1).pow(alpha).mean()


def uniformity(z: Tensor, t: float = 2.0) -> Tensor:
    """Log of the mean of exp(−t · squared distance) over all pairs of images: a scalar <= 0.

    0 says that all points are one; points spread evenly over a sphere of many dimensions come
    near −2t.

    Args:
        z: (B, D) floating point, B >= 2, one view of each image; normalised inside.
        t: > 0.

    Raises TypeError or ValueError as ``nt_xent`` does; ValueError for t <= 0.

    Source: Wang, Isola (2020), equation for L_uniform in section 4.
    """
    _check_pairs(z, z)
    if not t > 0:
        raise ValueError(f"t must be positive, got {t:g}")
    squared = torch.pdist(F.normalize(z, dim=1)).square()  # (B (B − 1) / 2,)
    return torch.logsumexp(-t * squared, 0) - math.log(len(squared))
