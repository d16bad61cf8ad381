"""Answers to 120.1b.dino-loss."""

import torch

from dlcourse.self_supervised_learning import DINOLoss


def terms(student, teacher, center, student_temp, teacher_temp):
    p = ((teacher - center) / teacher_temp).softmax(-1)
    q = (student / student_temp).log_softmax(-1)
    return -torch.einsum("tbk,sbk->tsb", p, q)


def wrong_two_global_views_always(student, teacher, center, student_temp, teacher_temp):
    loss = terms(student, teacher, center, student_temp, teacher_temp).mean(-1)
    pairs = [loss[t, s] for t in range(2) for s in range(len(student)) if t != s]
    return torch.stack(pairs).mean()


def wrong_global_views_alone(student, teacher, center, student_temp, teacher_temp):
    loss = terms(student[: len(teacher)], teacher, center, student_temp, teacher_temp).mean(-1)
    pairs = [loss[t, s] for t in range(len(loss)) for s in range(len(loss)) if t != s]
    return torch.stack(pairs).mean() if pairs else loss.mean()


def wrong_local_views_alone(student, teacher, center, student_temp, teacher_temp):
    return terms(student, teacher, center, student_temp, teacher_temp)[:, len(teacher) :].mean()


def wrong_mean_of_the_students_means(student, teacher, center, student_temp, teacher_temp):
    """A global view has one pair less than a local one, and counts as much."""
    loss = terms(student, teacher, center, student_temp, teacher_temp).mean(-1)
    means = [
        torch.stack([loss[t, s] for t in range(len(loss)) if t != s]).mean()
        for s in range(len(student))
        if len(loss) > 1 or s > 0
    ]
    return torch.stack(means).mean()


def wrong_logarithm_cut_at_minus_100(student, teacher, center, student_temp, teacher_temp):
    p = ((teacher - center) / teacher_temp).softmax(-1)
    q = (student / student_temp).log_softmax(-1).clamp(min=-100)
    loss = -torch.einsum("tbk,sbk->ts", p, q) / student.shape[1]
    return loss[_different(student, teacher)].mean()


def wrong_number_of_pairs(student, teacher, center, student_temp, teacher_temp):
    loss = terms(student, teacher, center, student_temp, teacher_temp).mean(-1)
    pairs = [loss[t, s] for t in range(len(loss)) for s in range(len(student)) if t != s]
    return torch.stack(pairs).sum() / loss.numel()


def wrong_sum_over_images(student, teacher, center, student_temp, teacher_temp):
    return right_by_a_mask(student, teacher, center, student_temp, teacher_temp) * student.shape[1]


def wrong_center_added(student, teacher, center, student_temp, teacher_temp):
    return right_by_a_mask(student, teacher, -center, student_temp, teacher_temp)


def wrong_center_after_the_temperature(student, teacher, center, student_temp, teacher_temp):
    return right_by_a_mask(student, teacher, center * teacher_temp, student_temp, teacher_temp)


def wrong_softmax_over_images(student, teacher, center, student_temp, teacher_temp):
    p = ((teacher - center) / teacher_temp).softmax(1)
    q = (student / student_temp).log_softmax(1)
    loss = -torch.einsum("tbk,sbk->ts", p, q) / student.shape[1]
    pairs = [loss[t, s] for t in range(len(loss)) for s in range(len(student)) if t != s]
    return torch.stack(pairs).mean()


def wrong_kl(student, teacher, center, student_temp, teacher_temp):
    p = ((teacher - center) / teacher_temp).softmax(-1)
    entropy = -torch.special.xlogy(p, p).sum(-1)
    different = _different(student, teacher)
    loss = terms(student, teacher, center, student_temp, teacher_temp) - entropy[:, None]
    return loss.mean(-1)[different].mean()


def wrong_roles_swapped(student, teacher, center, student_temp, teacher_temp):
    p = (student / student_temp).softmax(-1)
    q = ((teacher - center) / teacher_temp).log_softmax(-1)
    loss = -torch.einsum("tbk,sbk->ts", q, p) / student.shape[1]
    return loss[_different(student, teacher)].mean()


def wrong_student_detached(student, teacher, center, student_temp, teacher_temp):
    return right_by_a_mask(student.detach(), teacher, center, student_temp, teacher_temp)


def wrong_without_gradients(student, teacher, center, student_temp, teacher_temp):
    with torch.no_grad():
        return right_by_a_mask(student, teacher, center, student_temp, teacher_temp)


def _different(student, teacher):
    return ~torch.eye(len(teacher), len(student), dtype=torch.bool)


def right_by_a_mask(student, teacher, center, student_temp, teacher_temp):
    loss = terms(student, teacher, center, student_temp, teacher_temp).mean(-1)
    return loss[_different(student, teacher)].mean()


def right_as_in_the_package(student, teacher, center, student_temp, teacher_temp):
    loss = DINOLoss(len(center), student_temp=student_temp, teacher_temp=teacher_temp).double()
    loss.center.copy_(center)
    return loss(student, teacher)


def right_total_less_the_diagonal(student, teacher, center, student_temp, teacher_temp):
    loss = terms(student, teacher, center, student_temp, teacher_temp).mean(-1)
    return (loss.sum() - loss.diagonal().sum()) / (loss.numel() - len(loss))


def right_with_a_teacher_that_does_not_train(
    student, teacher, center, student_temp, teacher_temp
):
    with torch.no_grad():
        p = torch.softmax((teacher - center) / teacher_temp, dim=2)
    total, count = 0.0, 0
    for s, scores in enumerate(student):
        scaled = scores / student_temp
        log_q = scaled - torch.logsumexp(scaled, dim=1, keepdim=True)
        for t, target in enumerate(p):
            if s == t:
                continue
            total = total - (target * log_q).sum(dim=1).mean()
            count += 1
    return total / count
