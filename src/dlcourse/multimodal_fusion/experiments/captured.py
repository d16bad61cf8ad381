"""A training step as a CUDA graph: the host starts one thing instead of thousands."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

Step = Callable[..., Tensor]


class Captured:
    """A function of tensors of fixed shapes that returns a tensor, replayed where it can be.

    On a GPU the step runs three times to warm up, then it is captured. A step that can't be
    captured (it looks at a value, say) is called as it is from then on, as it is on a CPU.

    Args:
        step: takes one training step; must not look at values on the host.
        inputs: an example of its inputs.
        optimizers: their rates must be 0 now, so that warming up changes no weight. What they have
            gathered is set to zero afterwards.
    """

    def __init__(
        self, step: Step, inputs: Sequence[Tensor], optimizers: Iterable[torch.optim.Optimizer]
    ) -> None:
        self.step, self.graph, self.optimizers = step, None, list(optimizers)
        self.how = "eager"  # or "graph", or what went wrong
        device = inputs[0].device
        if device.type != "cuda":
            return
        gc.collect()  # the graphs of steps that nobody needs any more hold memory
        with contextlib.suppress(RuntimeError):  # it refuses if a capture has failed before
            torch.cuda.empty_cache()
        self.inputs = [x.clone() for x in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        pool = torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.graph(graph, pool=pool):
                self.output = step(*self.inputs)
            self.graph, self.how = graph, "graph"
        except Exception as error:  # whatever it was, the step itself has run three times
            torch.cuda.set_stream(stream)
            self.how = f"eager: {type(error).__name__}: {error}"[:300]
            _clean_up(pool)
        self._forget()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Take the step; a replayed step returns the same tensor each time, overwritten."""
        if self.graph is None:
            return self.step(*inputs)
        for kept, new in zip(self.inputs, inputs, strict=True):
            kept.copy_(new)
        self.graph.replay()
        return self.output

    def seconds(self, inputs: Sequence[Tensor], repeats: int = 5) -> float:
        """Of one step; to be called before training, with the rates at 0."""
        self(*inputs)
        _wait(inputs[0].device)
        began = time.perf_counter()
        for _ in range(repeats):
            self(*inputs)
        _wait(inputs[0].device)
        found = (time.perf_counter() - began) / repeats
        self._forget()
        return found

    def _forget(self) -> None:
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                for value in state.values():
                    value.zero_()


def new_adamw(model: nn.Module, weight_decay: float = 0.05) -> torch.optim.AdamW:
    """AdamW at rate 0; on a GPU in the form that can be captured, its rate a tensor."""
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    return torch.optim.AdamW(
        model.parameters(), torch.tensor(0.0, device=device) if on_gpu else 0.0,
        weight_decay=weight_decay, fused=on_gpu or None, capturable=on_gpu,
    )  # fmt: skip


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Put a learning rate into all groups, into the tensor that a graph reads where it is one."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def rate_part(k: int, steps: int) -> float:
    """Which part of the rate step k of ``steps`` has: a warm-up over 5 %, and a cosine to 0."""
    ramp = min(1.0, (k + 1) / max(1, 0.05 * steps))
    return ramp * 0.5 * (1 + math.cos(math.pi * k / steps))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _clean_up(pool: tuple[int, int]) -> None:
    """After a capture that failed: memory no longer goes to its pool, and random numbers flow."""
    device = torch.cuda.current_device()
    with contextlib.suppress(Exception):  # already done, or done differently in this version
        torch._C._cuda_endAllocateToPool(device, pool)
    with contextlib.suppress(Exception):
        fresh = torch.Generator(torch.device("cuda", device)).manual_seed(torch.initial_seed())
        torch.cuda.default_generators[device].graphsafe_set_state(fresh.graphsafe_get_state())
    torch.cuda.synchronize()
