"""122.1b: the parameters of a MuJoCo model that a simulator may have wrong.

A parameter is named by its kind, or by its kind and the element that it belongs to: ``"gear"`` is
the gear of all actuators, ``"mass:pole"`` the mass of the body ``pole`` alone. Four kinds are
*factors* of the model's own value, so 1 leaves the model as it is:

========  ==============================================  ===========
kind      what it scales                                  elements
========  ==============================================  ===========
mass      ``body_mass`` and ``body_inertia`` (a density)  bodies
friction  ``geom_friction``                               geoms
damping   ``dof_damping``                                 joints
gear      ``actuator_gear``                               actuators
========  ==============================================  ===========

Two belong to the loop around the model: ``latency``, in whole control steps, and ``noise``, the
standard deviation of the sensors' error.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mujoco

#: kind -> the arrays that it scales
ARRAYS = {
    "mass": ("body_mass", "body_inertia"),
    "friction": ("geom_friction",),
    "damping": ("dof_damping",),
    "gear": ("actuator_gear",),
}
#: kind -> what its elements are called in MuJoCo
ELEMENTS = {"mass": "body", "friction": "geom", "damping": "joint", "gear": "actuator"}
#: what belongs to the loop around the model
LOOP = ("latency", "noise")


def rows_of(model: mujoco.MjModel, name: str) -> np.ndarray:
    """The rows of the kind's arrays that a parameter scales, int (k,).

    Raises:
        ValueError: an unknown kind or element; the message lists those that there are.
    """
    import mujoco

    kind, _, element = name.partition(":")
    if kind not in ELEMENTS:
        known = ", ".join([*ELEMENTS, *LOOP])
        raise ValueError(f"unknown parameter {name!r}: the kinds are {known}, as in 'mass:pole'")
    if not element:
        return np.arange(len(getattr(model, ARRAYS[kind][0])))
    what = ELEMENTS[kind]
    index = mujoco.mj_name2id(model, getattr(mujoco.mjtObj, f"mjOBJ_{what.upper()}"), element)
    if index < 0:
        count = getattr(model, {"body": "nbody", "joint": "njnt", "geom": "ngeom"}.get(what, "nu"))
        there = [getattr(model, what)(k).name for k in range(count)]
        raise ValueError(f"{name!r}: the model has no {what} {element!r}; it has {there}")
    if kind == "damping":  # a joint may have several degrees of freedom
        return np.flatnonzero(model.dof_jntid == index)
    return np.array([index])


def check_names(model: mujoco.MjModel, names: Mapping[str, object] | tuple[str, ...]) -> None:
    """Raise ValueError where a name is unknown, or two names scale the same element."""
    seen: dict[tuple[str, int], str] = {}
    for name in names:
        if name in LOOP:
            continue
        for row in rows_of(model, name):
            place = (name.partition(":")[0], int(row))
            if place in seen:
                raise ValueError(f"{seen[place]!r} and {name!r} scale the same element: keep one")
            seen[place] = name


def check_value(name: str, value: float) -> float:
    """A parameter's value as a float (an int for the latency).

    Raises:
        TypeError: not a number.
        ValueError: not finite; a factor that is not positive; a negative noise; a latency that is
            not a whole number from 0 on.
    """
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, not {value!r}")
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite: got {value}")
    if name == "latency":
        if value < 0 or value != int(value):
            raise ValueError(f"latency is a whole number of control steps, 0 or more: got {value}")
        return int(value)
    if name == "noise":
        if value < 0:
            raise ValueError(f"noise is a standard deviation, 0 or more: got {value}")
    elif value <= 0:
        raise ValueError(f"{name} is a factor of the model's value, above 0: got {value}")
    return value


def check_parameters(model: mujoco.MjModel, parameters: Mapping[str, float]) -> dict[str, float]:
    """Names and values checked; the parameters as a new dict. Raises as its two parts do."""
    check_names(model, parameters)
    return {name: check_value(name, value) for name, value in parameters.items()}


def scaled(nominal: mujoco.MjModel, parameters: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The model's arrays under the parameters: field -> a new array. Loop parameters are skipped.

    ``parameters`` must be checked.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, factor in parameters.items():
        if name in LOOP:
            continue
        rows = rows_of(nominal, name)
        for field in ARRAYS[name.partition(":")[0]]:
            array = arrays.setdefault(field, getattr(nominal, field).copy())
            array[rows] = factor * getattr(nominal, field)[rows]
    return arrays


def write(
    model: mujoco.MjModel,
    nominal: mujoco.MjModel,
    parameters: Mapping[str, float],
    scratch: mujoco.MjData | None = None,
) -> None:
    """Make ``model`` the ``nominal`` one under ``parameters``, in place.

    MuJoCo keeps constants that depend on masses (inverse weights, the mean inertia, what a motor
    can accelerate); ``mj_setConst`` computes them anew. It needs data to work in; we give it its
    own, so that a running simulation keeps its state. Who writes often hands it over as
    ``scratch``: it is cheaper than new data each time.
    """
    import mujoco

    restore(model, nominal)
    arrays = scaled(nominal, parameters)
    if arrays:
        for field, array in arrays.items():
            getattr(model, field)[:] = array
        mujoco.mj_setConst(model, mujoco.MjData(model) if scratch is None else scratch)


def restore(model: mujoco.MjModel, nominal: mujoco.MjModel) -> None:
    """Copy every number of ``nominal`` into ``model``, bit by bit."""
    for field, array in numbers_of(nominal).items():
        target = getattr(model, field)
        if target.size and target.flags.writeable:
            target[...] = array  # without a comparison first: it costs more, and takes −0 for 0
    for field in ("meaninertia", "meanmass", "meansize", "extent"):
        setattr(model.stat, field, getattr(nominal.stat, field))
    model.stat.center[:] = nominal.stat.center


def numbers_of(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """All arrays of a model by name (views)."""
    return {name: getattr(model, name) for name in _array_names(type(model))}


@functools.cache
def _array_names(kind: type[mujoco.MjModel]) -> tuple[str, ...]:
    """The fields that are arrays: the same for each model, so they are looked up once."""
    model = kind.from_xml_string("<mujoco/>")
    names = [name for name in dir(kind) if not name.startswith("_")]
    return tuple(name for name in names if isinstance(getattr(model, name), np.ndarray))


def copy_of(model: mujoco.MjModel) -> mujoco.MjModel:
    """A model of its own with the same numbers."""
    return copy.copy(model)
