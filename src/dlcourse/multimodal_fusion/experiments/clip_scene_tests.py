"""What a model of pictures and captions is asked about captioned scenes, and a linear baseline.

Chapter: ``121_multimodal_fusion/2a_clip`` (its recorded cell ``scenes``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcourse.datasets.scenes import (
    OBJECT_COLOURS,
    OBJECT_SHAPES,
    SCENE_CONTEXT,
    SCENE_WORDS,
    SceneFactors,
    Scenes,
    render_scenes,
    scene_factors,
    scene_tokens,
)
from dlcourse.multimodal_fusion.clip.tokenizer import WordTokenizer

__all__ = ["TEMPLATES", "linear_baseline", "make_tests", "measure", "ridge_scores"]

TEMPLATES = ("a {}", "a picture of a {}", "a drawing of a {}", "there is a {}")
Score = Callable[[Tensor, Tensor], Tensor]  # pictures (N, …), captions (M, L) → (N, M)


def make_tests(n: int, size: int, device: torch.device) -> tuple[dict[str, Scenes], Tensor]:
    """Scenes of five kinds, pictures as bytes; and prompts (templates, 36, L) for all classes."""
    kinds = {
        "validation": (11, "seen", 1.0),
        "seen": (12, "seen", 1.0),
        "unseen": (13, "unseen", 1.0),
        "one seen": (14, "seen", 0.0),
        "one unseen": (15, "unseen", 0.0),
    }
    sets = {}
    for name, (seed, combinations, pairs) in kinds.items():
        generator = torch.Generator().manual_seed(seed)  # of the CPU: the same for every device
        drawn = scene_factors(n, generator, combinations=combinations, pairs=pairs)
        factors = SceneFactors(*(value.to(device) for value in drawn))
        parts = torch.arange(n, device=device).split(1024)
        painted = (render_scenes(factors.rows(i), size) for i in parts)
        images = [(x * 255).round().to(torch.uint8) for x in painted]
        sets[name] = Scenes(torch.cat(images), scene_tokens(factors), factors)
    classes = [f"{colour} {shape}" for colour in OBJECT_COLOURS for shape in OBJECT_SHAPES]
    tokenizer = WordTokenizer(SCENE_WORDS, SCENE_CONTEXT)
    prompts = [tokenizer([t.replace("{}", c) for c in classes]) for t in TEMPLATES]
    longest = max(p.shape[1] for p in prompts)
    return sets, torch.stack([F.pad(p, (0, longest - p.shape[1])) for p in prompts]).to(device)


@torch.no_grad()
def measure(score: Score, sets: dict[str, Scenes], prompts: Tensor) -> dict[str, float]:
    """All answers of one model, as shares.

    "seen i2t@k", "seen t2i@k", "unseen i2t@k", …: retrieval among scenes with two objects.
    "zero-shot seen", "zero-shot unseen": colour and shape of one object among all 36, with the
    first prompt; "ensemble …": with the scores of all prompts averaged. "replaced", "swapped
    colours", "swapped objects": how often a caption fits its picture better than the same with
    another colour, with the colours or the objects exchanged.
    """
    from dlcourse.multimodal_fusion.experiments.clip_scenes import recalls

    found = {}
    for name in ("seen", "unseen"):
        scenes = sets[name]
        for k, both in zip((1, 5, 10), recalls(score(scenes.images, scenes.tokens))):
            found[f"{name} i2t@{k}"], found[f"{name} t2i@{k}"] = both
        one = sets[f"one {name}"]
        answer = one.factors.colour[:, 0] * len(OBJECT_SHAPES) + one.factors.shape[:, 0]
        each = [score(one.images, p) for p in prompts]  # (N, 36) for every template
        for key, s in (("zero-shot", each[0]), ("ensemble", torch.stack(each).mean(0))):
            found[f"{key} {name}"] = float((s.argmax(1) == answer).double().mean())
    scenes = sets["seen"]
    f = scenes.factors
    right = score(scenes.images, scenes.tokens).diagonal()
    other_colour = f.colour[:, 0] != f.colour[:, 1]
    for key, changed, differs in (
        ("replaced", f.replace_colour(), torch.ones_like(other_colour)),
        ("swapped colours", f.swap_colours(), other_colour & (f.shape[:, 0] != f.shape[:, 1])),
        ("swapped objects", f.swap_objects(), other_colour | (f.shape[:, 0] != f.shape[:, 1])),
    ):
        wrong = score(scenes.images, scene_tokens(changed)).diagonal()
        better = (right > wrong).double() + 0.5 * (right == wrong).double()  # a tie is a guess
        found[key] = float(better[differs].mean())
    return found


def ridge_scores(
    images: Tensor, targets: Tensor, strength: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """The closed-form linear map from pixels to targets: (N, 3, S, S) bytes and (N, T) → a function
    of new pictures (M, …) and the targets of captions (C, T) that gives cosines (M, C)."""

    def pixels(x: Tensor) -> Tensor:
        return F.avg_pool2d(x.float() / 255, 3).flatten(1).double()

    x, y = pixels(images), targets.double()
    mean_x, mean_y, std_y = x.mean(0), y.mean(0), y.std(0).clamp(min=1e-6)
    x, y = x - mean_x, (y - mean_y) / std_y
    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weights = torch.linalg.solve(x.T @ x / len(x) + strength * eye, x.T @ y / len(x))

    def score(new: Tensor, captions: Tensor) -> Tensor:
        guess = F.normalize((pixels(new) - mean_x) @ weights, dim=1)
        return guess @ F.normalize((captions.double() - mean_y) / std_y, dim=1).T

    return score


def linear_baseline(
    images: Tensor,
    tokens: Tensor,
    sets: dict[str, Scenes],
    prompts: Tensor,
    strengths: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
) -> dict[str, object]:
    """From pixels to the words of the caption by ``ridge_scores``; the strength that validates
    best (R@1). Returns "tuning", "rate" (the strength), and each measure as a list of one."""
    from dlcourse.multimodal_fusion.experiments.clip_scenes import presence, recalls

    targets = presence(tokens)
    scenes, tuning, scorers = sets["validation"], {}, {}
    for strength in strengths:
        score = ridge_scores(images, targets, strength)
        scorers[strength] = lambda x, t, score=score: score(x, presence(t))
        tuning[strength] = sum(recalls(scorers[strength](scenes.images, scenes.tokens), [1])[0]) / 2
    best = max(tuning, key=tuning.get)
    measured = measure(scorers[best], sets, prompts)
    return {"tuning": tuning, "rate": best} | {key: [value] for key, value in measured.items()}
