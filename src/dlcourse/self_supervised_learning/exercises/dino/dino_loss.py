"""120.1b: DINO's loss over several views, written out."""

import torch

from dlcourse.exercises import Exercise, Mistake


def dino_loss(student, teacher, center, student_temp, teacher_temp):
    """Return DINO's loss, averaged over images and over pairs of different views.

    student: (S, B, K), scores of the student on all S views.
    teacher: (T, B, K), scores of the teacher on the T global views, which are
    the first T of the student's.
    center: (K,), the centre to subtract from the teacher's scores.
    """
    p = torch.softmax((teacher - center) / teacher_temp, dim=-1)  # (T, B, K)
    log_q = torch.log_softmax(student / student_temp, dim=-1)  # (S, B, K)
    losses = [
        -(p[t] * log_q[s]).sum(-1).mean()
        for t in range(len(p))
        for s in range(len(log_q))
        if t != s  # no view against itself
    ]
    return torch.stack(losses).mean()


def cases(rng):
    """Two global views, and none to three local ones; scores so far apart that a softmax is 0."""
    k, batch, local = int(rng.integers(3, 7)), int(rng.integers(2, 5)), int(rng.integers(0, 4))
    large = 40.0 if rng.random() < 0.7 else 1.0
    student = torch.from_numpy(rng.standard_normal((2 + local, batch, k)))
    student[0, 0, 0], student[1, -1, -1] = 200.0, 200.0
    return {
        "student": student,
        "teacher": torch.from_numpy(rng.standard_normal((2, batch, k))) * large / 40,
        "center": torch.from_numpy(rng.standard_normal(k)),
        "student_temp": float(rng.uniform(0.1, 0.2)),
        "teacher_temp": float(rng.uniform(0.3, 0.9)),
    }


def edges():
    """Two views alone, one global view, three; a single prototype; one image."""
    numbers = torch.arange(60, dtype=torch.float64)
    scores = (numbers * 2.7).sin().view(5, 3, 4) * 3  # five views, three images, four prototypes
    rest = {"center": scores[0, 0] / 2, "student_temp": 0.15, "teacher_temp": 0.4}
    teacher = scores.flip(2) / 2
    return {
        "two views alone": {"student": scores[:2], "teacher": teacher[:2], **rest},
        "one global view": {"student": scores[:3], "teacher": teacher[:1], **rest},
        "three global views": {"student": scores, "teacher": teacher[:3], **rest},
        "one image": {"student": scores[:, :1], "teacher": teacher[:2, :1], **rest},
        "one prototype": {
            "student": scores[..., :1], "teacher": teacher[:2, :, :1], **rest,
            "center": rest["center"][:1],
        },
        "scores far apart": {"student": scores * 300, "teacher": teacher[:2], **rest},
        "equal temperatures": {
            "student": scores, "teacher": teacher[:2], **rest, "teacher_temp": 0.15
        },
    }  # fmt: skip


def _pairs(p, log_q, different=True):
    return torch.stack(
        [
            -(p[t] * log_q[s]).sum(-1).mean()
            for t in range(len(p))
            for s in range(len(log_q))
            if t != s or not different
        ]
    ).mean()


def listing_same_view(student, teacher, center, student_temp, teacher_temp):
    p = torch.softmax((teacher - center) / teacher_temp, dim=-1)
    log_q = torch.log_softmax(student / student_temp, dim=-1)
    return -(p * log_q[: len(p)]).sum(-1).mean()


def listing_log_of_softmax(student, teacher, center, student_temp, teacher_temp):
    p = torch.softmax((teacher - center) / teacher_temp, dim=-1)
    return _pairs(p, torch.log(torch.softmax(student / student_temp, dim=-1)))


def listing_center_first(student, teacher, center, student_temp, teacher_temp):
    center = 0.9 * center + 0.1 * teacher.mean((0, 1))
    return dino_loss(student, teacher, center, student_temp, teacher_temp)


def with_itself(student, teacher, center, student_temp, teacher_temp):
    p = torch.softmax((teacher - center) / teacher_temp, dim=-1)
    return _pairs(p, torch.log_softmax(student / student_temp, dim=-1), different=False)


def no_center(student, teacher, center, student_temp, teacher_temp):
    return dino_loss(student, teacher, 0 * center, student_temp, teacher_temp)


def temperatures_swapped(student, teacher, center, student_temp, teacher_temp):
    return dino_loss(student, teacher, center, teacher_temp, student_temp)


def center_for_both(student, teacher, center, student_temp, teacher_temp):
    return dino_loss(student - center, teacher, center, student_temp, teacher_temp)


def mean_over_prototypes(student, teacher, center, student_temp, teacher_temp):
    return dino_loss(student, teacher, center, student_temp, teacher_temp) / student.shape[-1]


EXERCISE = Exercise(
    key="120.1b.dino-loss",
    title="DINO's loss over several views",
    difficulty="implement",
    statement=r"""
Write DINO's loss. With the teacher's scores $g_t$ on global view $t$, the student's $g_s$ on view
$s$, the centre $c$ and the two temperatures,

$$
\begin{gathered}
P_t = \operatorname{softmax}\!\Bigl(\frac{g_t - c}{\tau_t}\Bigr), \qquad
P_s = \operatorname{softmax}\!\Bigl(\frac{g_s}{\tau_s}\Bigr), \\
\mathcal L = \operatorname*{mean}_{t \ne s,\ \text{images}} \;
-\sum_{k=1}^{K} P_t^{(k)} \log P_s^{(k)} .
\end{gathered}
$$

`student` holds all views, `teacher` the global ones; view number $i$ of the teacher is view number
$i$ of the student. There may be one global view, or several. Some scores are far apart, and the
result must still be finite. Gradients must flow back to the student's scores.
""",
    imports="import torch",
    reference=dino_loss,
    cases=cases,
    edges=edges,
    differentiable=("student",),
    hints=[
        "Two loops over views, or one product of all pairs; leave out the pairs with t = s.",
        "The centre belongs to the teacher alone. So does the smaller temperature in practice, "
        "but take here what you are given.",
        "log(softmax(x)) is −inf where the softmax underflows; torch.log_softmax is not.",
    ],
    mistakes={
        "listing_same_view": Mistake(
            answer=listing_same_view,
            hint="each view is compared with itself and with no other: that is the document's "
            "listing, whose local views are never used.",
        ),
        "listing_log_of_softmax": Mistake(
            answer=listing_log_of_softmax,
            hint="the logarithm of a softmax that has underflowed is −inf, as in the document's "
            "listing. Use torch.log_softmax.",
        ),
        "listing_center_first": Mistake(
            answer=listing_center_first,
            hint="the centre is moved by this batch before it is used, as in the document's "
            "listing. Use it as it is given.",
        ),
        "with_itself": Mistake(
            answer=with_itself,
            hint="the pairs of a view with itself are counted too. They teach nothing: leave out "
            "t = s, in the sum and in the number of pairs.",
        ),
        "no_center": Mistake(
            answer=no_center,
            hint="the centre is not subtracted from the teacher's scores.",
        ),
        "temperatures_swapped": Mistake(
            answer=temperatures_swapped,
            hint="the temperatures are swapped between the networks.",
        ),
        "center_for_both": Mistake(
            answer=center_for_both,
            hint="the centre is subtracted from the student's scores as well. Only the teacher is "
            "centred: the student has to follow it.",
        ),
        "mean_over_prototypes": Mistake(
            answer=mean_over_prototypes,
            hint="the terms of the cross-entropy are averaged over k. They are summed: P is a "
            "distribution.",
        ),
    },
)
