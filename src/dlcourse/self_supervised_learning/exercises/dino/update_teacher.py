"""120.1b: the teacher's update, buffers and all."""

import numpy as np
import torch

from dlcourse.exercises import Exercise, Mistake


def new_teacher(student, teacher, parameters, momentum):
    """Return the teacher's state after one update: a new dict of new tensors.

    student, teacher: dicts of name -> tensor, encoder and head, parameters and
    buffers; leave them as they are.
    parameters: names of those that are parameters; the others are buffers.
    """
    state = {}
    for name, value in teacher.items():
        if name in parameters:
            state[name] = momentum * value + (1 - momentum) * student[name]
        else:  # running statistics and counters are not trained: take the student's
            state[name] = student[name].clone()
    return state


def cases(rng):
    """An encoder with a norm's running mean and counter, and a head; the names differ."""

    def draw(steps):
        n = int(sizes[0])
        state = {
            f"encoder.{layer}.weight": rng.standard_normal((n, int(sizes[1]))),
            f"encoder.{layer}.{mean}": rng.standard_normal(n),
            f"encoder.{layer}.{counter}": np.array(steps),
            f"head.{head}": rng.standard_normal((int(sizes[2]), n)),
        }
        return {name: torch.from_numpy(value) for name, value in state.items()}

    sizes, layer = rng.integers(2, 5, size=3), int(rng.integers(9))
    mean, counter, head = (
        str(rng.choice(names))
        for names in (["running_mean", "center"], ["num_batches_tracked", "seen"], ["last", "out"])
    )
    steps = int(rng.integers(10, 1000))
    parameters = [f"head.{head}", f"encoder.{layer}.weight"]
    return {
        "student": draw(steps),
        "teacher": draw(steps - int(rng.integers(1, 9))),
        "parameters": parameters[:: int(rng.choice([-1, 1]))],
        "momentum": float(rng.uniform(0.9, 0.999)),
    }


def edges():
    """No parameters, no buffers; a momentum of 0 or 1; a parameter of one number."""
    teacher = {"encoder.bias": torch.tensor([1.0, 2.0], dtype=torch.float64),
               "encoder.seen": torch.tensor(5), "head.scale": torch.tensor(3.0).double()}
    student = {"encoder.bias": torch.tensor([2.0, -2.0], dtype=torch.float64),
               "encoder.seen": torch.tensor(8), "head.scale": torch.tensor(1.0).double()}
    usual = {"student": student, "teacher": teacher,
             "parameters": ["encoder.bias", "head.scale"], "momentum": 0.9}
    moving = {name: student[name] for name in usual["parameters"]}
    return {
        "a parameter of one number": usual,
        "no parameters": {**usual, "parameters": []},
        "no buffers": {
            **usual, "student": moving, "teacher": {name: teacher[name] for name in moving}
        },
        "a momentum of 1": {**usual, "momentum": 1.0},
        "a momentum of 0": {**usual, "momentum": 0.0},
        "a buffer of floats": {**usual, "parameters": ["encoder.bias"]},
    }  # fmt: skip


def listing(student, teacher, parameters, momentum):
    """Encoder's parameters only: neither head nor buffers."""
    state = {name: value.clone() for name, value in teacher.items()}
    for name in parameters:
        if name.startswith("encoder."):
            state[name] = momentum * teacher[name] + (1 - momentum) * student[name]
    return state


def no_buffers(student, teacher, parameters, momentum):
    state = {name: value.clone() for name, value in teacher.items()}
    for name in parameters:
        state[name] = momentum * teacher[name] + (1 - momentum) * student[name]
    return state


def shared_buffers(student, teacher, parameters, momentum):
    return {**student, **new_parameters(student, teacher, parameters, momentum)}


def new_parameters(student, teacher, parameters, momentum):
    return {n: momentum * teacher[n] + (1 - momentum) * student[n] for n in parameters}


def weights_swapped(student, teacher, parameters, momentum):
    return new_teacher(student, teacher, parameters, 1 - momentum)


def copies_all(student, teacher, parameters, momentum):
    return {name: value.clone() for name, value in student.items()}


def averages_all(student, teacher, parameters, momentum):
    return {n: momentum * teacher[n] + (1 - momentum) * student[n] for n in teacher}


def in_place(student, teacher, parameters, momentum):
    for name in teacher:
        if name in parameters:
            teacher[name].mul_(momentum).add_(student[name], alpha=1 - momentum)
        else:
            teacher[name].copy_(student[name])
    return teacher


EXERCISE = Exercise(
    key="120.1b.update-teacher",
    title="The teacher's update",
    difficulty="implement",
    statement=r"""
Write the update of DINO's teacher for a whole network. Its state is a dict of tensors. *Parameters*
move by $\theta_t \leftarrow m\,\theta_t + (1-m)\,\theta_s$, those of the head like those of the
encoder. *Buffers* (running statistics, counters) are copied from the student.

Return a new dict of new tensors, none of which lies in the memory of an argument, and leave both
arguments as they are. (The package's `update_teacher` works in place, to save memory.)
""",
    imports="import torch",
    reference=new_teacher,
    cases=cases,
    edges=edges,
    returns_new=True,
    hints=[
        "Go through all names of the teacher's state; `parameters` tells the two kinds apart.",
        "The large weight, m, belongs to the teacher.",
        "A counter is an integer: an average would make it a float, and wrong.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the head and the buffers stay as they were: that is the document's listing, "
            "where the teacher's encoder moves under a head that does not.",
        ),
        "no_buffers": Mistake(
            answer=no_buffers,
            hint="the buffers stay as they were. Copy them from the student.",
        ),
        "shared_buffers": Mistake(
            answer=shared_buffers,
            hint="the buffers are the student's own tensors: its next step would change the "
            "teacher's. Copy them with `.clone()`.",
        ),
        "weights_swapped": Mistake(
            answer=weights_swapped,
            hint="the weights are swapped: the teacher would be nearly the student at every step.",
        ),
        "copies_all": Mistake(
            answer=copies_all,
            hint="the student's parameters are copied. They are averaged, with weight 1 − m.",
        ),
        "averages_all": Mistake(
            answer=averages_all,
            hint="the buffers are averaged too; the counter is no integer any more. Copy them.",
        ),
        "in_place": Mistake(
            answer=in_place,
            hint="the teacher that was passed in has changed. Build a new dict.",
        ),
    },
)
