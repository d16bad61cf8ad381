"""What Lion and Schedule-Free AdamW share: checks, state, and three ways to compute an update."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import Optimizer, ParamsT

Implementation = Literal["auto", "loop", "foreach", "compiled", "triton"]


class ElementwiseOptimizer(Optimizer):
    """Checks, state and dispatch of an optimizer whose update acts on each element alone.

    A subclass gives the names of its state tensors and of its groups' settings, and

    * ``_new_state(p)``: the state of a parameter before its first step;
    * ``_coefficients(group)``: counts a step of the group, returns the update's scalars;
    * the update in three forms, for plain tensors of one dtype: ``_update_one`` (in place),
      ``_update_all`` (in place, for lists of tensors), ``_equations`` (returns new values);
    * ``_update_kernel``, where ``implementations`` has "triton": as ``_update_all``.
    """

    implementations: tuple[Implementation, ...] = ("auto", "loop", "foreach", "compiled")
    state_names: tuple[str, ...]
    settings: tuple[str, ...]  # what each group must have
    foreign_settings: tuple[str, ...] = ()  # what only another optimizer's group has
    changing_scalars: tuple[str, ...]  # those which change from step to step
    _loaded: dict[str, Any] | None = None  # in load_state_dict: what the hooks have made of it

    def __init__(
        self, params: ParamsT, defaults: dict[str, Any], implementation: Implementation
    ) -> None:
        if implementation not in self.implementations:
            raise ValueError(
                f"implementation must be one of {self.implementations}, got {implementation!r}"
            )
        self.implementation = implementation
        super().__init__(params, {name: plain(value) for name, value in defaults.items()})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; raises ValueError where one of its hyper-parameters is out of range."""
        self._check({**self.defaults, **param_group})
        settings = {name: plain(param_group[name]) for name in self.settings if name in param_group}
        super().add_param_group({**param_group, **settings})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "implementation": self.implementation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict, with each state tensor in the dtype in which it is held here.

        Hooks run as for any optimizer of torch: what a pre-hook returns is what is loaded, and
        what a post-hook puts into the state stays.

        Raises ValueError where the state is another optimizer's; then nothing has changed.
        """

        def take(_: Optimizer, state_dict: dict[str, Any]) -> None:
            self._check_state_dict(state_dict)
            self._loaded = state_dict

        handle = self.register_load_state_dict_pre_hook(take)  # the last of the pre-hooks
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
            self._loaded = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._loaded is None:
            return
        # Optimizer.load_state_dict, which calls this before the post-hooks, has cast the state to
        # the parameter's dtype, which rounds the float32 state of a bfloat16 parameter, and may
        # share tensors with the state dict.
        for p, saved in self._saved_states(self._loaded):
            for name in self.state_names:
                self.state[p][name] = saved[name].to(p.device, state_dtype(p), copy=True)

    def _saved_states(self, state_dict: dict[str, Any]) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Each parameter that has a state in the state dict, with that state."""
        saved_ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for i, p in zip(saved_ids, params):
            if state_dict["state"].get(i):
                yield p, state_dict["state"][i]

    def _check_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = type(self).__name__
        advice = f"it is not of {own}; load it into the optimizer that wrote it"
        for group in state_dict["param_groups"]:
            if missing := [name for name in self.settings if name not in group]:
                raise ValueError(f"the state dict's groups have no {missing}: {advice}")
            if foreign := [name for name in self.foreign_settings if name in group]:
                raise ValueError(f"the state dict's groups have {foreign}: {advice}")
            self._check(group)
        for p, saved in self._saved_states(state_dict):
            tensors = [n for n in self.state_names if isinstance(saved.get(n), Tensor)]
            if missing := sorted(set(self.state_names) - set(tensors)):
                raise ValueError(f"the state dict has no {missing}: {advice}")
            for name in tensors:
                if saved[name].shape != p.shape:
                    raise ValueError(
                        f"the state dict has a {name} of shape {tuple(saved[name].shape)} for a "
                        f"parameter of shape {tuple(p.shape)}: give the parameters in the order in "
                        "which they were given to the optimizer that wrote it"
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns what ``closure`` (which re-evaluates the loss) returns.

        Raises RuntimeError for a sparse or complex gradient, before anything has changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with_gradient = [[p for p in g["params"] if p.grad is not None] for g in self.param_groups]
        for params in with_gradient:
            for p in params:
                self._check_gradient(p)
        for group, params in zip(self.param_groups, with_gradient, strict=True):
            for p in params:
                if self.state_names[0] not in self.state[p]:
                    self.state[p].update(self._new_state(p))
            scalars = self._coefficients(group)
            for bucket in _by_device_and_dtype(params):
                states = [self.state[p] for p in bucket]
                self._update(
                    [local(p) for p in bucket],
                    [_local_gradient(p) for p in bucket],
                    [[local(state[name]) for state in states] for name in self.state_names],
                    scalars,
                )
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

        if implementation == "triton":
            self._update_kernel(ps, gs, *state, **scalars)
            return
        ps = [p.detach() for p in ps]
        if implementation == "compiled":
            # Rates change from step to step: as tensors they do not make it compile again.
            changing = {
                name: torch.full((), scalars[name], dtype=dtype, device=device)
                for name in self.changing_scalars
            }
            _run_compiled(self._equations, ps, gs, state, {**scalars, **changing})
        elif implementation == "foreach":
            self._update_foreach(ps, gs, *state, **scalars)
        else:
            for tensors in zip(ps, gs, *state):
                for p, g, *s in _pieces(*tensors):
                    wide_p = p.to(dtype)
                    self._update_one(wide_p, g.to(dtype), *s, **scalars)
                    if wide_p is not p:
                        p.copy_(wide_p)

    @classmethod
    def _update_foreach(
        cls, ps: list[Tensor], gs: list[Tensor], *state: list[Tensor], **scalars: float
    ) -> None:
        """``_update_all``, with low-precision parameters computed in the precision of their state."""
        dtype = state[0][0].dtype
        wide_ps = [p.to(dtype) for p in ps]
        cls._update_all(wide_ps, [g.to(dtype) for g in gs], *state, **scalars)
        if ps[0].dtype != dtype:
            torch._foreach_copy_(ps, wide_ps)

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
            if not 0 <= number(group, name) < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {group[name]}")
        try:
            beta1, beta2 = map(float, group["betas"])
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"betas must be two numbers, got {group['betas']!r}") from None
        if math.isnan(beta1 + beta2):
            raise ValueError(f"betas must be two numbers, got {group['betas']!r}")


def number(group: dict[str, Any], name: str) -> float:
    """A hyper-parameter as a float: it may be a Python or NumPy number, or a tensor with one.

    Raises ValueError for anything else.
    """
    try:
        return float(group[name])
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be one number, got {group[name]!r}") from None


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's, which a checkpoint can hold; anything else as it is.

    A tensor stays: who gave a rate as a tensor may change it in place.
    """
    if isinstance(value, (tuple, list)):
        return type(value)(plain(part) for part in value)
    return value.item() if type(value).__module__ == "numpy" else value


def state_dtype(p: Tensor) -> torch.dtype:
    """float32 for lower-precision parameters, else the parameter's own dtype."""
    return torch.promote_types(p.dtype, torch.float32)


def local(t: Tensor) -> Tensor:
    """This rank's shard of a DTensor (sharing its memory); any other tensor as it is."""
    if type(t) is Tensor or type(t) is Parameter:  # the usual case, without a failing look-up
        return t
    return t.to_local() if hasattr(t, "to_local") else t


def _local_gradient(p: Tensor) -> Tensor:
    g = p.grad
    if type(g) is Tensor:
        return g
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
