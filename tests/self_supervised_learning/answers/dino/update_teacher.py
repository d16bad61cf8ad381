"""Answers to 120.1b.update-teacher."""

import collections
import copy

import torch


def wrong_by_dtype(student, teacher, parameters, momentum):
    """A running mean is a float too, and no parameter."""
    return {
        n: momentum * t + (1 - momentum) * student[n] if t.is_floating_point() else t.clone()
        for n, t in teacher.items()
    }


def wrong_names_known_by_heart(student, teacher, parameters, momentum):
    weights = [n for n in teacher if n.endswith((".weight", ".prototypes", ".bias"))]
    return _update(student, teacher, weights, momentum)


def _update(student, teacher, parameters, momentum):
    return {
        n: torch.lerp(student[n], t, momentum) if n in parameters else student[n].clone()
        for n, t in teacher.items()
    }


def wrong_buffers_of_the_teacher(student, teacher, parameters, momentum):
    new = {n: t.clone() for n, t in teacher.items()}
    new.update({n: torch.lerp(student[n], teacher[n], momentum) for n in parameters})
    return new


def wrong_buffers_shared(student, teacher, parameters, momentum):
    return {
        n: torch.lerp(student[n], t, momentum) if n in parameters else student[n]
        for n, t in teacher.items()
    }


def wrong_buffers_left_out(student, teacher, parameters, momentum):
    return {n: torch.lerp(student[n], teacher[n], momentum) for n in parameters}


def wrong_into_the_teacher(student, teacher, parameters, momentum):
    for n in parameters:
        teacher[n].lerp_(student[n], 1 - momentum)
    return {**{n: t.clone() for n, t in student.items()}, **{n: teacher[n] for n in parameters}}


def wrong_new_entries_of_the_teacher(student, teacher, parameters, momentum):
    for n in teacher:
        teacher[n] = _update(student, teacher, parameters, momentum)[n]
    return dict(teacher)


def wrong_counter_counts_on(student, teacher, parameters, momentum):
    new = _update(student, teacher, parameters, momentum)
    return {n: t + 1 if t.dtype == torch.int64 else t for n, t in new.items()}


def wrong_weights_swapped(student, teacher, parameters, momentum):
    return _update(student, teacher, parameters, 1 - momentum)


def wrong_shared_where_nothing_moves(student, teacher, parameters, momentum):
    if momentum == 1:
        return {n: t if n in parameters else student[n].clone() for n, t in teacher.items()}
    return _update(student, teacher, parameters, momentum)


def wrong_numbers_without_dimension_are_counters(student, teacher, parameters, momentum):
    moving = [n for n in parameters if teacher[n].dim()]
    return _update(student, teacher, moving, momentum)


def wrong_a_list(student, teacher, parameters, momentum):
    return list(_update(student, teacher, parameters, momentum).values())


def wrong_views_of_the_buffers(student, teacher, parameters, momentum):
    return {
        n: torch.lerp(student[n], t, momentum) if n in parameters else student[n].view_as(t)
        for n, t in teacher.items()
    }


def right_by_lerp(student, teacher, parameters, momentum):
    return _update(student, teacher, set(parameters), momentum)


def right_in_another_order(student, teacher, parameters, momentum):
    new = collections.OrderedDict()
    for n in reversed(student):
        moves = n in parameters
        new[n] = teacher[n].lerp(student[n], 1 - momentum) if moves else student[n] * 1
    return new


def right_from_a_copy(student, teacher, parameters, momentum):
    new = copy.deepcopy(student)
    for name in parameters:
        new[name] *= 1 - momentum
        new[name] += momentum * teacher[name]
    return new
