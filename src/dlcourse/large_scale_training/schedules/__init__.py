"""Learning-rate schedules: pure functions of the step, and the schedulers that apply them (119.3).

Chapter: ``119_large_scale_training/3_schedules``.

Each shape is a function ``step -> multiplier``, to be plotted and tested without an optimizer.
``multiplier.MultiplierLR`` turns one into a scheduler whose rate at step k is
``base_lr * multiplier(k)``, or ``min_lr + (base_lr - min_lr) * multiplier(k)`` with an absolute
floor. Because the rate is a function of the step alone, a schedule is resumed by restoring one
number, and it may be moved to any step.

Steps count from 0: the first ``optimizer.step()`` runs at ``multiplier(0)``, and T steps of
training use ``multiplier(0) … multiplier(T - 1)``. From step T on the rate keeps its minimum,
whatever the shape did before. Rates are absolute: schedules do not multiply when they are chained.
"""
