"""Mixed precision: compute in 16 bits, keep the weights in 32.

Chapter: ``119_large_scale_training/1c_mixed_precision``.

Paper: Micikevicius et al. (2018), "Mixed Precision Training": master weights (section 3.1), loss
scaling (section 3.2).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["MixedPrecision", "underflow_fraction"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class MixedPrecision:
    """Training steps whose forward pass runs in ``dtype`` under autocast.

    The model's parameters stay float32: they are the *master weights*, to which an update much
    smaller than the weight can still be added. Autocast casts them for each matrix product and
    computes in float32 what needs range or accuracy: losses, and on CUDA softmax, norms and sums
    too (on a CPU these return ``dtype``).

    float16 has 5 bits of exponent: gradients below 6e-8 become 0. So the loss is multiplied by a
    scale, and the gradients are divided by it again in float32. bfloat16 has the exponent of
    float32 and needs no scale.

    Attributes:
        skipped: whether the last step left the weights alone because a scaled gradient was
            infinite or NaN (float16 only). Do not step the schedule then.
        skipped_steps: how many steps were skipped so far.
        grad_norm: norm of the last true (unscaled) gradient before clipping; None unless
            ``max_grad_norm`` is set.
    """

    def __init__(
        self, dtype: torch.dtype, max_grad_norm: float | None = None, *, micro_batches: int = 1
    ) -> None:
        """
        Args:
            dtype: torch.float32 (no autocast), torch.bfloat16 or torch.float16.
            max_grad_norm: gradients are scaled down to this norm if theirs is larger.
            micro_batches: into how many equal parts each batch is split; their gradients are
                accumulated, so that only a part's activations are in memory at once.

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
            ValueError: parameters in 16 bits, or a batch that cannot be split evenly.
        """
        device = self._check(model, optimizer)
        optimizer.zero_grad()
        total = torch.zeros((), device=device)
        for inputs, *targets in self._split(batch):
            with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
                loss = loss_fn(model(inputs), *targets) / self.micro_batches
            # Outside autocast: the backward pass uses the types that the forward pass chose.
            self._scaler.scale(loss).backward()
            total += loss.detach()

        if self.max_grad_norm is not None:
            self._scaler.unscale_(optimizer)  # the limit is for the true gradient
            norm = nn.utils.clip_grad_norm_(model.parameters(), self.max_grad_norm)
        scale = self.scale
        self._scaler.step(optimizer)  # unscales if that is still to do; skips inf and NaN
        self._scaler.update()
        self.skipped = self.scale < scale  # only a skipped step lowers the scale
        self.skipped_steps += self.skipped
        if self.max_grad_norm is not None:
            # of sharded parameters the norm is a DTensor: a partial sum of each rank
            self.grad_norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        return total.item()

    def state_dict(self) -> dict[str, Any]:
        """The scale and the counts: part of a checkpoint's ``extra``."""
        return {"scaler": self._scaler.state_dict(), "skipped_steps": self.skipped_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned, of a run with the same dtype.

        Raises ValueError if only one of the two runs is in float16.
        """
        if bool(state["scaler"]) != self._scaler.is_enabled():
            raise ValueError(
                f"the saved state is of a run {'with' if state['scaler'] else 'without'} a loss "
                f"scale, which does not fit {self.dtype}"
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
        for name, parameter in model.named_parameters():
            if parameter.dtype in (torch.float16, torch.bfloat16):
                raise ValueError(
                    f"parameter {name} is {parameter.dtype}: call model.float() and leave the "
                    "casting to autocast; small updates to 16-bit weights are rounded away"
                )
        return next(model.parameters()).device

    def _split(self, batch: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
        if self.micro_batches == 1:
            return iter([batch])
        samples = {len(tensor) for tensor in batch}
        if len(samples) != 1 or samples.pop() % self.micro_batches:
            raise ValueError(
                f"tensors of lengths {[len(t) for t in batch]} cannot be split into "
                f"{self.micro_batches} equal micro-batches"
            )
        return zip(*(tensor.chunk(self.micro_batches) for tensor in batch), strict=True)


def underflow_fraction(values: Tensor, dtype: torch.dtype, scale: float = 1.0) -> float:
    """The fraction of the non-zero ``values`` that become 0 in ``dtype`` after multiplication by
    ``scale`` (Micikevicius et al. 2018, figure 3: why the loss is scaled).

    Raises ValueError if there are no non-zero values.
    """
    nonzero = values[values != 0]
    if nonzero.numel() == 0:
        raise ValueError("all values are 0: there is nothing that could underflow")
    return ((nonzero * scale).to(dtype) == 0).double().mean().item()
