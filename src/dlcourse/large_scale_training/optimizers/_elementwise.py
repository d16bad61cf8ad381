"""What Lion and Schedule-Free AdamW share: checks, state, and three ways to compute an update."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

Implementation = Literal["auto", "loop", "foreach", "compiled"]


class ElementwiseOptimizer(Optimizer):
    """Checks, state and dispatch of an optimizer whose update acts on each element alone.

    A subclass gives the names of its state tensors, and

    * ``_new_state(p)``: the state of a parameter before its first step;
    * ``_coefficients(group)``: counts a step of the group, returns the update's scalars;
    * the update in three forms, for plain tensors of one dtype: ``_update_one`` (in place),
      ``_update_all`` (in place, for lists of tensors), ``_equations`` (returns new values).
    """

    state_names: tuple[str, ...]
    changing_scalars: tuple[str, ...]  # those which change from step to step

    def __init__(
        self, params: ParamsT, defaults: dict[str, Any], implementation: Implementation
    ) -> None:
        if implementation not in get_args(Implementation):
            raise ValueError(
                f"implementation must be one of {get_args(Implementation)}, got {implementation!r}"
            )
        self.implementation = implementation
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; raises ValueError where one of its hyper-parameters is out of range."""
        self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "implementation": self.implementation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict, with each state tensor in the dtype in which it is held here.

        Raises ValueError where the state is another optimizer's.
        """
        for state in state_dict["state"].values():
            if missing := set(self.state_names) - set(state):
                raise ValueError(
                    f"the state dict has no {sorted(missing)}: it is not of "
                    f"{type(self).__name__}; load it into the optimizer that wrote it"
                )
        super().load_state_dict(state_dict)
        # Optimizer.load_state_dict casts state to the parameter's dtype, which would round the
        # float32 state of a bfloat16 parameter, and may share tensors with the state dict.
        saved_ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for i, p in zip(saved_ids, params, strict=True):
            if i in state_dict["state"]:
                self.state[p] = {
                    name: state_dict["state"][i][name].to(p.device, state_dtype(p), copy=True)
                    for name in self.state_names
                }

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns what ``closure`` (which re-evaluates the loss) returns.

        Raises RuntimeError for a sparse or complex gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            for p in with_gradient:
                self._check_gradient(p)
                if not self.state[p]:
                    self.state[p] = self._new_state(p)
            scalars = self._coefficients(group)
            for params in _by_device_and_dtype(with_gradient):
                ps = [local(p.detach()) for p in params]
                gs = [_local_gradient(p) for p in params]
                state = [[local(self.state[p][n]) for p in params] for n in self.state_names]
                self._update(ps, gs, state, scalars)
        return loss

    def _update(
        self,
        ps: list[Tensor],
        gs: list[Tensor],
        state: list[list[Tensor]],
        scalars: dict[str, float],
    ) -> None:
        device, dtype = ps[0].device, state[0][0].dtype
        implementation = self.implementation
        if implementation == "auto":
            implementation = "loop" if device.type == "cpu" else "foreach"

        if implementation == "compiled":
            # Rates change from step to step: as tensors they do not make it compile again.
            changing = {
                name: torch.full((), scalars[name], dtype=dtype, device=device)
                for name in self.changing_scalars
            }
            _run_compiled(self._equations, ps, gs, state, {**scalars, **changing})
        elif implementation == "foreach":
            # Low-precision parameters are computed with in the precision of their state.
            wide_ps = [p.to(dtype) for p in ps]
            self._update_all(wide_ps, [g.to(dtype) for g in gs], *state, **scalars)
            if ps[0].dtype != dtype:
                torch._foreach_copy_(ps, wide_ps)
        else:
            for tensors in zip(ps, gs, *state):
                for p, g, *s in _pieces(*tensors):
                    wide_p = p.to(dtype)
                    self._update_one(wide_p, g.to(dtype), *s, **scalars)
                    if wide_p is not p:
                        p.copy_(wide_p)

    def _check_gradient(self, p: Tensor) -> None:
        if p.grad.layout != torch.strided:
            raise RuntimeError(
                f"{type(self).__name__} takes no sparse gradients (shape {tuple(p.shape)}): "
                "make the layer with sparse=False, or give its parameters to SparseAdam"
            )
        if p.is_complex() or p.grad.is_complex():
            raise RuntimeError(
                f"{type(self).__name__} takes no complex parameters or gradients (shape "
                f"{tuple(p.shape)}): optimize torch.view_as_real(parameter) instead"
            )

    @classmethod
    def _check(cls, group: dict[str, Any]) -> None:
        """Raise ValueError where a group's hyper-parameters are out of range."""
        for name in ("lr", "weight_decay"):
            if not 0 <= float(group[name]) < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {group[name]}")
        if len(group["betas"]) != 2:
            raise ValueError(f"betas must be two numbers, got {group['betas']!r}")


def state_dtype(p: Tensor) -> torch.dtype:
    """float32 for lower-precision parameters, else the parameter's own dtype."""
    return torch.promote_types(p.dtype, torch.float32)


def local(t: Tensor) -> Tensor:
    """This rank's shard of a DTensor (sharing its memory); any other tensor as it is."""
    return t.to_local() if hasattr(t, "to_local") else t


def _local_gradient(p: Tensor) -> Tensor:
    g = p.grad
    if hasattr(g, "to_local") and g.placements != p.placements:
        g = g.redistribute(placements=p.placements)
    return local(g)


def _by_device_and_dtype(params: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    buckets: dict[tuple[torch.device, torch.dtype], list[Tensor]] = defaultdict(list)
    for p in params:
        buckets[p.device, p.dtype].append(p)
    return buckets.values()


# 2¹⁷ float32 elements are half a megabyte: four such pieces stay in a core's cache.
_PIECE = 2**17


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors themselves or, where they are large, matching pieces of them (views).

    A tensor that is larger than the cache is fetched from memory by each operation of the
    update; a piece of it is fetched by the first, and found in the cache by the others.
    """
    first = tensors[0]
    size = _PIECE * torch.get_num_threads()  # each thread works in its own core's cache
    if (
        first.device.type != "cpu"
        or first.numel() <= 2 * size
        or not all(t.is_contiguous() for t in tensors)
    ):
        yield tensors
    else:
        yield from zip(*(t.view(-1).split(size) for t in tensors))


@functools.cache
def _compiled(equations: Callable[..., tuple[Tensor, ...]]) -> Callable[..., None]:
    """One compiled function which applies the equations to every tensor of a list."""

    def step(
        ps: list[Tensor], gs: list[Tensor], state: list[list[Tensor]], scalars: dict[str, Any]
    ) -> None:
        for p, g, *s in zip(ps, gs, *state):
            wide = s[0].dtype
            new_values = equations(p.to(wide), g.to(wide), *s, **scalars)
            for old, new in zip((p, *s), new_values):
                old.copy_(new)

    return torch.compile(step, dynamic=False)


def _run_compiled(
    equations: Callable[..., tuple[Tensor, ...]],
    ps: list[Tensor],
    gs: list[Tensor],
    state: list[list[Tensor]],
    scalars: dict[str, Any],
) -> None:
    try:
        _compiled(equations)(ps, gs, state, scalars)
    except Exception as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise RuntimeError(
                "torch.compile could not build the optimizer's step; the reason is above. On a "
                "CPU it needs a C++ compiler (for example g++), on a GPU Triton: install it, or "
                'use implementation="auto", which needs neither'
            ) from error
        raise
