"""121.2a: classes from the texts of several prompts."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Exercise, Mistake


def prompt_ensemble(images, texts):
    """Return the class of each picture: (N,) whole numbers.

    images: (N, D) features of pictures, of any length.
    texts: (C, T, D) features of T prompts for each of C classes, of any length.
    """
    prompts = F.normalize(texts, dim=2)
    classes = F.normalize(prompts.mean(1), dim=1)  # (C, D)
    return (F.normalize(images, dim=1) @ classes.T).argmax(1)


def cases(rng):
    """Prompts around a direction for each class, with lengths that differ much."""
    c, t, d, n = (int(rng.integers(a, b)) for a, b in ((3, 6), (2, 5), (3, 6), (12, 30)))
    centre = rng.standard_normal((c, 1, d))
    texts = centre + rng.uniform(0.1, 2.0, (c, 1, 1)) * rng.standard_normal((c, t, d))
    texts *= 10 ** rng.uniform(-1, 1, (c, t, 1))
    images = rng.standard_normal((n, d))
    return {"images": torch.from_numpy(images), "texts": torch.from_numpy(texts)}


def edges():
    """One prompt, one class, one picture; a class whose prompts disagree; a very long prompt."""
    a = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], dtype=torch.float64)
    x = torch.tensor([[1.0, 0.7, 0.1], [0.2, 0.1, 1.0], [0.5, 0.6, 0.0]], dtype=torch.float64)
    apart = torch.stack([torch.stack([a[0], a[1]]), torch.stack([a[0] + 0.8 * a[2]] * 2)])
    long = torch.stack([torch.stack([100 * a[0], a[1]]), torch.stack([a[0] + 0.3 * a[1]] * 2)])
    return {
        "one prompt": {"images": x, "texts": a[:, None]},
        "one class": {"images": x, "texts": a[None]},
        "one picture": {"images": x[:1], "texts": a[:, None]},
        "prompts that disagree": {"images": x[[0, 0, 2]], "texts": apart},
        "a very long prompt": {"images": x, "texts": long},
    }


def listing(images, texts):
    """The first prompt alone."""
    return (F.normalize(images, dim=1) @ F.normalize(texts[:, 0], dim=1).T).argmax(1)


def prompts_not_normalised(images, texts):
    return (F.normalize(images, dim=1) @ F.normalize(texts.mean(1), dim=1).T).argmax(1)


def mean_not_normalised(images, texts):
    return (F.normalize(images, dim=1) @ F.normalize(texts, dim=2).mean(1).T).argmax(1)


def best_prompt(images, texts):
    score = torch.einsum("nd,ctd->nct", F.normalize(images, dim=1), F.normalize(texts, dim=2))
    return score.amax(2).argmax(1)


def no_length_at_all(images, texts):
    return (images @ texts.mean(1).T).argmax(1)


def classes_for_pictures(images, texts):
    classes = F.normalize(F.normalize(texts, dim=2).mean(1), dim=1)
    return (F.normalize(images, dim=1) @ classes.T).argmax(0)


EXERCISE = Exercise(
    key="121.2a.prompt-ensemble",
    title="Many prompts, one classifier",
    difficulty="implement",
    statement=r"""
Each class is described by $T$ prompts. Make one vector of them, as CLIP does: normalise each
prompt's vector, average them, and normalise the mean. Then give each picture the class whose vector
has the largest cosine with it.

The second normalisation is easily forgotten: the mean of vectors that disagree is short. Its length
would be held against the class.
""",
    imports="import torch\nimport torch.nn.functional as F",
    reference=prompt_ensemble,
    cases=cases,
    edges=edges,
    hints=[
        "`texts` has three dimensions; the vectors lie along the last one.",
        "Average over dimension 1, the prompts.",
        "A class's vector is normalised after the mean once more.",
    ],
    mistakes={
        "listing": Mistake(answer=listing, hint="only the first prompt is used."),
        "prompts_not_normalised": Mistake(
            answer=prompts_not_normalised,
            hint="prompts are averaged as they are: long vectors count for more.",
        ),
        "mean_not_normalised": Mistake(
            answer=mean_not_normalised,
            hint="the mean is not normalised: classes whose prompts disagree lose by their length.",
        ),
        "best_prompt": Mistake(
            answer=best_prompt,
            hint="you take each class's best prompt. The ensemble averages vectors.",
        ),
        "no_length_at_all": Mistake(
            answer=no_length_at_all,
            hint="nothing is normalised: cosines are wanted.",
        ),
        "classes_for_pictures": Mistake(
            answer=classes_for_pictures,
            hint="you give each class its picture. The largest over the classes is wanted.",
        ),
    },
)
