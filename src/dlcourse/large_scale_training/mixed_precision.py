"""Mixed precision: compute in 16 bits, keep the weights in 32.

Chapter: ``119_large_scale_training/1c_mixed_precision``.

Paper: Micikevicius et al. (2018), "Mixed Precision Training": master weights (section 3.1), loss
scaling (section 3.2).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["MixedPrecision", "underflow_fraction"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LEAST_SCALE = 1e-4  # as in fairseq: below it no gradient of a sound run overflows


class MixedPrecision:
    """Training steps whose forward pass runs in ``dtype`` under autocast.

    The model's parameters stay float32: they are the *master weights*, to which an update much
    smaller than the weight can still be added. Autocast casts them for each matrix product and
    computes in float32 what needs range or accuracy: losses, and on CUDA softmax, norms and sums
    too (on a CPU these return ``dtype``).

    float16 has 5 bits of exponent: its smallest number is 2⁻²⁴, and gradients up to half of that,
    2⁻²⁵ ≈ 3e-8, become 0. So the loss is multiplied by a scale, and the gradients are divided by it
    again in float32. bfloat16 has the exponent of float32 and needs no scale.

    What is zeroed, clipped and stepped are the parameters that the *optimizer* holds. Others, such
    as the body under a head that is trained alone or the parameters of a second optimizer, are
    left alone.

    Attributes:
        skipped: whether the last step left the weights alone because a scaled gradient was
            infinite or NaN (float16 only). Do not step the schedule then.
        skipped_steps: how many steps were skipped so far.
        grad_norm: norm of the last true (unscaled) gradient before clipping; None unless
            ``max_grad_norm`` is set.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        max_grad_norm: float | None = None,
        *,
        micro_batches: int = 1,
        count: Callable[..., Any] | None = None,
    ) -> None:
        """
        Args:
            dtype: torch.float32 (no autocast), torch.bfloat16 or torch.float16.
            max_grad_norm: gradients are scaled down to this norm if theirs is larger.
            micro_batches: into how many equal parts each batch is split; their gradients are
                accumulated, so that only a part's activations are in memory at once.
            count: ``count(*targets)``, over how many terms the mean loss of these targets is taken.
                Parts are weighted by it. By default all parts weigh the same, which is wrong where
                targets are ignored (padding): give ``lambda y: (y != -100).sum()`` then; with
                weights of the classes, by whose sum their mean is divided, ``lambda y:
                weight[y].sum()``. A loss that is a sum takes no parts.

        Raises ValueError for another dtype, or a norm or number that is not above 0.
        """
        if dtype not in _DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(map(str, _DTYPES))}, not {dtype}")
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be above 0 or None, got {max_grad_norm}")
        if micro_batches < 1:
            raise ValueError(f"micro_batches must be at least 1, got {micro_batches}")
        self.dtype = dtype
        self.max_grad_norm = max_grad_norm
        self.micro_batches = micro_batches
        self.count = count
        self.skipped = False
        self.skipped_steps = 0
        self.grad_norm: float | None = None
        # Without float16 it is disabled: it then hands losses and steps through.
        self._scaler = torch.amp.GradScaler(
            "cuda" if torch.cuda.is_available() else "cpu", enabled=dtype == torch.float16
        )

    @property
    def scale(self) -> float:
        """The factor on the loss; 1 unless float16."""
        return self._scaler.get_scale()

    def step(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss_fn: Callable[..., Tensor],
        *batch: Tensor,
    ) -> float:
        """Do one optimizer step on ``batch`` and return the loss.

        Args:
            loss_fn: ``loss_fn(model(inputs), *targets)`` is the *mean* loss over the samples.
            batch: inputs and targets, each of shape (samples, ...).

        Reading the loss and the scale waits for the device: once, after everything is queued.

        Raises:
            TypeError: the optimizer's step needs a closure (LBFGS), which cannot be repeated with
                scaled gradients.
            ValueError: the optimizer trains parameters in 16 bits, a batch cannot be split evenly
                or has ignored targets that nobody counts, no target counts, or none of the
                optimizer's parameters got a gradient. Nothing was updated.
            FloatingPointError: step after step was skipped until the scale fell below 1e-4. The
                weights are those of the last good step, the scale stays at the least one.
        """
        device = self._check(model, optimizer)
        held = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.zero_grad()
        total = torch.zeros((), device=device)
        for share, (inputs, *targets) in self._split(batch, loss_fn):
            with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
                loss = loss_fn(model(inputs), *targets) * share
            # Outside autocast: the backward pass uses the types that the forward pass chose.
            self._scaler.scale(loss).backward()
            total += loss.detach()
        if all(p.grad is None for p in held):
            raise ValueError(
                f"none of the {len(held)} parameters of {type(optimizer).__name__} got a gradient: "
                "is it of another model, or are they frozen?"
            )

        if self.max_grad_norm is not None:
            self._scaler.unscale_(optimizer)  # the limit is for the true gradient
            norm = nn.utils.clip_grad_norm_(held, self.max_grad_norm)
        self._scaler.step(optimizer)  # unscales if that is still to do; skips inf and NaN
        self.skipped = self._overflowed(optimizer)
        self._scaler.update()
        self.skipped_steps += self.skipped
        if self.max_grad_norm is not None:
            # of sharded parameters the norm is a DTensor: a partial sum of each rank
            self.grad_norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        self._keep_scale_above_its_least()
        return total.item()

    def _overflowed(self, optimizer: Optimizer) -> bool:
        """Whether the scaler found an infinite or NaN gradient. Not read off the scale: that cannot
        fall any more once it has come down to 0."""
        if not self._scaler.is_enabled():
            return False
        found = self._scaler._found_inf_per_device(optimizer)
        return any(flag.item() for flag in found.values())

    def _keep_scale_above_its_least(self) -> None:
        if self.scale >= LEAST_SCALE:
            return
        self._scaler.update(self.scale * 2)
        raise FloatingPointError(
            f"{self.skipped_steps} steps were skipped so far, and gradients are infinite or NaN at "
            f"a loss scale of {self.scale:.1e} still, which no scale mends. Look for NaN in the "
            "data, an overflow in the forward pass (try bfloat16), or a learning rate that is too "
            "high. The weights are those of the last step that was not skipped"
        )

    def state_dict(self) -> dict[str, Any]:
        """The scale and the counts: part of a checkpoint's ``extra``."""
        return {"scaler": self._scaler.state_dict(), "skipped_steps": self.skipped_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned, of a run with the same dtype.

        Raises ValueError if only one of the two runs is in float16, or the saved scale had
        underflowed; nothing is changed.
        """
        if bool(state["scaler"]) != self._scaler.is_enabled():
            raise ValueError(
                f"the saved state is of a run {'with' if state['scaler'] else 'without'} a loss "
                f"scale, which does not fit {self.dtype}"
            )
        if state["scaler"] and not LEAST_SCALE <= state["scaler"]["scale"] < math.inf:
            raise ValueError(
                f"the saved loss scale is {state['scaler']['scale']:g}: that run had skipped its "
                "steps for long. Resume from an earlier checkpoint, or without this state"
            )
        self._scaler.load_state_dict(state["scaler"])
        self.skipped_steps = state["skipped_steps"]

    def _check(self, model: nn.Module, optimizer: Optimizer) -> torch.device:
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise TypeError(
                f"{type(optimizer).__name__} evaluates the loss several times a step through a "
                "closure, which does not go with loss scaling: use a first-order optimizer"
            )
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for group in optimizer.param_groups:
            for parameter in group["params"]:  # a frozen 16-bit base may be: it gets no updates
                if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
                    raise ValueError(
                        f"parameter {names.get(id(parameter), 'of the optimizer')} is "
                        f"{parameter.dtype}: call model.float() and leave the casting to autocast; "
                        "small updates to 16-bit weights are rounded away"
                    )
        return next(model.parameters()).device

    def _split(
        self, batch: tuple[Tensor, ...], loss_fn: Callable[..., Tensor]
    ) -> Iterator[tuple[float, tuple[Tensor, ...]]]:
        """Each micro-batch, with its share of the loss: n_i / n, equation (eq-accumulate)."""
        if self.micro_batches == 1:
            return iter([(1.0, batch)])
        samples = {len(tensor) for tensor in batch}
        if len(samples) != 1 or samples.pop() % self.micro_batches:
            raise ValueError(
                f"tensors of lengths {[len(t) for t in batch]} cannot be split into "
                f"{self.micro_batches} equal micro-batches"
            )
        parts = list(zip(*(tensor.chunk(self.micro_batches) for tensor in batch), strict=True))
        if self.count is None:
            usual = -100 if loss_fn in (nn.functional.cross_entropy, nn.functional.nll_loss) else None
            ignored = getattr(loss_fn, "ignore_index", usual)
            if isinstance(ignored, int) and any((t == ignored).any() for t in batch[1:]):
                raise ValueError(
                    f"some targets are {ignored}, which the loss ignores: micro-batches then "
                    "differ in the number of targets, and their mean losses must be weighted by "
                    f"it. Give MixedPrecision(count=lambda y: (y != {ignored}).sum())"
                )
            return iter([(1 / self.micro_batches, part) for part in parts])
        counts = [float(self.count(*part[1:])) for part in parts]
        if not sum(counts) > 0:
            raise ValueError("no target of the batch counts: its mean loss is 0 / 0")
        # A part in which nothing counts has no mean loss (0 / 0), and nothing to add.
        return iter([(n / sum(counts), part) for n, part in zip(counts, parts, strict=True) if n])


def underflow_fraction(values: Tensor, dtype: torch.dtype, scale: float = 1.0) -> float:
    """The fraction of the non-zero ``values`` that become 0 in ``dtype`` after multiplication by
    ``scale`` (Micikevicius et al. 2018, figure 3: why the loss is scaled).

    Raises ValueError if there are no non-zero values.
    """
    nonzero = values[values != 0]
    if nonzero.numel() == 0:
        raise ValueError("all values are 0: there is nothing that could underflow")
    return ((nonzero * scale).to(dtype) == 0).double().mean().item()
