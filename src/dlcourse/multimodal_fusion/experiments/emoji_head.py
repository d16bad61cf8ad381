"""A head on frozen encoders: pictures of emoji to the vectors of their names, learned by InfoNCE
and in closed form.

Chapter: ``121_multimodal_fusion/2a_clip`` (its recorded cell ``emoji``).
"""

from __future__ import annotations

import functools
import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.multimodal_fusion.clip.loss import clip_loss
from dlcourse.multimodal_fusion.clip.metrics import retrieval_recall, zero_shot_classifier
from dlcourse.multimodal_fusion.clip.model import CLIP

__all__ = ["STYLES", "Emoji", "compare_heads", "emoji_data", "infonce_head", "ridge_head", "search"]

STYLES = ("twemoji", "openmoji")
STRENGTHS = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
RATES, DROPOUTS = (1e-3, 3e-3, 1e-2, 3e-2), (0.3, 0.6)
TEMPLATES = ("{}", "a picture of {}", "an emoji about {}", "a symbol that stands for {}")
Head = Callable[[Tensor], Tensor]  # features of pictures (N, D) → vectors (N, E)


class Emoji(NamedTuple):
    """Frozen features of concepts, in the order of ``dlcourse.datasets.emoji``."""

    pictures: Tensor  # (2, N, D), of each style
    names: Tensor  # (N, E), rows of length 1


def emoji_data() -> Emoji:
    """The features of EfficientNet-Lite0 and MiniLM: computed once, then read."""
    from dlcourse.multimodal_fusion.frozen import image_features, name_features

    return Emoji(torch.stack([image_features(style) for style in STYLES]), name_features())


def _standard(pictures: Tensor, fit: Tensor) -> Callable[[Tensor], Tensor]:
    own = pictures[:, fit].flatten(0, 1)
    mean, std = own.mean(0), own.std(0).clamp(min=1e-6)
    return lambda x: (x - mean) / std


def ridge_head(data: Emoji, fit: Tensor, strength: float) -> Head:
    """The linear map that guesses the name's vector with the least squared error, plus strength
    times its squared weights; from both styles of the concepts ``fit``."""
    standard = _standard(data.pictures, fit)
    x = standard(data.pictures[:, fit].flatten(0, 1)).double()
    y = data.names[fit].double().repeat(len(STYLES), 1)
    mean = y.mean(0)
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(x.T @ x + strength * eye, x.T @ (y - mean))
    return lambda pictures: (standard(pictures).double() @ weights + mean).float()


def infonce_head(
    data: Emoji,
    fit: Tensor,
    rate: float,
    dropout: float,
    seed: int,
    *,
    epochs: int = 80,
    batch: int = 256,
) -> Head:
    """A linear map into the names' space, learned with ``clip_loss``: each concept of a batch is
    shown in a random style. The names stay where they are."""
    torch.manual_seed(seed)
    standard = _standard(data.pictures, fit)
    pictures = standard(data.pictures)
    towers = nn.Dropout(dropout), nn.Identity()
    towers[0].embed_dim, towers[1].embed_dim = pictures.shape[2], data.names.shape[1]
    model = CLIP(*towers, data.names.shape[1])
    nn.init.eye_(model.text_projection.weight).requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.1)
    steps = epochs * max(1, len(fit) // batch)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for _ in range(epochs):
        for part in fit[torch.randperm(len(fit))].split(batch)[: max(1, len(fit) // batch)]:
            style = torch.randint(len(STYLES), (len(part),))
            optimizer.zero_grad()
            clip_loss(*model(pictures[style, part], data.names[part])).backward()
            optimizer.step()
            rates.step()
    model.eval()

    @torch.no_grad()
    def head(new: Tensor) -> Tensor:
        return model.encode_image(standard(new))

    return head


def _recalls(head: Head, data: Emoji, part: Tensor, ks: Sequence[int]) -> dict[str, list[float]]:
    """Picture → name, for each style: R@k."""
    found = {}
    for style, pictures in zip(STYLES, data.pictures):
        recall = retrieval_recall(head(pictures[part]), data.names[part], ks)
        found[style] = [recall[k][0] for k in ks]
    return found


def compare_heads(
    data: Emoji,
    split: Callable[[int], tuple[Tensor, Tensor, Tensor]],
    seeds: Sequence[int],
    ks: Sequence[int] = (1, 5, 10),
    progress: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> dict[str, Any]:
    """Each seed is a split of its own: choose on its validation concepts (mean R@1 of both styles),
    fit once more on training and validation, and test once.

    Returns "ridge" and "InfoNCE": style → list over seeds of R@k for each k; "chosen": name → list
    of settings.
    """
    names = {
        "ridge": [(s,) for s in STRENGTHS],
        "InfoNCE": list(itertools.product(RATES, DROPOUTS)),
    }
    found: dict[str, Any] = {n: {style: [] for style in STYLES} for n in names} | {"chosen": {}}
    for seed in seeds:
        train, validation, test = split(seed)

        def fitted(name: str, part: Tensor, setting: tuple, seed: int = seed) -> Head:
            if name == "ridge":
                return ridge_head(data, part, *setting)
            return infonce_head(data, part, *setting, seed, **options)

        for name, settings in names.items():
            quality = {}
            for setting in settings:
                recall = _recalls(fitted(name, train, setting), data, validation, [1])
                quality[setting] = statistics.mean(r[0] for r in recall.values())
            best = max(quality, key=quality.get)
            head = fitted(name, torch.cat([train, validation]), best)
            for style, values in _recalls(head, data, test, ks).items():
                found[name][style].append(values)
            found["chosen"].setdefault(name, []).append(list(best))
            progress(f"seed {seed}, {name} {best}: " + str(found[name]["twemoji"][-1]))
    return found


def categories(
    head: Head, data: Emoji, part: Tensor, labels: Sequence[str], encode: Callable
) -> dict[str, dict[str, float]]:
    """Zero-shot accuracy in naming the category: each template alone (least and best), all."""
    names = sorted(set(labels))
    answer = torch.tensor([names.index(labels[i]) for i in part.tolist()])
    found: dict[str, dict[str, float]] = {}
    for style, pictures in zip(STYLES, data.pictures):
        x = F.normalize(head(pictures[part]), dim=1)

        def accuracy(templates: Sequence[str], x: Tensor = x) -> float:
            weights = zero_shot_classifier(encode, [n.lower() for n in names], templates)
            return float(((x @ weights.T).argmax(1) == answer).double().mean())

        alone = [accuracy([template]) for template in TEMPLATES]
        found[style] = {"least": min(alone), "best": max(alone), "all": accuracy(TEMPLATES)}
    return found


@functools.lru_cache(maxsize=1)
def _searcher() -> tuple[Emoji, Tensor, Any, Head]:
    from dlcourse.datasets import emoji_splits
    from dlcourse.multimodal_fusion.frozen import MiniLM

    data, (train, validation, test) = emoji_data(), emoji_splits(0)
    head = infonce_head(data, torch.cat([train, validation]), 3e-3, 0.3, 0)
    return data, test, MiniLM(), head


def search(text: str, style: str = "twemoji", k: int = 8) -> list[int]:
    """The k concepts, of 400 that the head has not seen, whose pictures fit a text best.

    The first call trains the head (seconds) and may compute features (a minute).
    """
    data, test, encoder, head = _searcher()
    query = encoder.encode([text])[0]
    pictures = F.normalize(head(data.pictures[STYLES.index(style), test]), dim=1)
    return test[(pictures @ query).topk(k).indices].tolist()


#: Texts of the page's widget; none is the name of an emoji.
QUERIES = (
    "something to drink",
    "an animal that lives in the sea",
    "somebody is very tired",
    "you can play music with it",
    "a vehicle that flies",
    "it grows in a garden",
    "people in love",
    "the sky at night",
    "a dessert",
    "not allowed",
    "a sport with a ball",
    "a place where people live",
)
CATEGORY_NAMES = {  # as a caption would say it
    "Smileys & Emotion": "a feeling on a face",
    "People & Body": "a person",
    "Animals & Nature": "an animal or a plant",
    "Food & Drink": "food or a drink",
    "Travel & Places": "a vehicle or a place",
    "Activities": "a sport or a game",
    "Objects": "an object",
    "Symbols": "a sign or a symbol",
    "Flags": "a flag of a country",
    "Component": "a colour of skin or hair",
}


def record_emoji(seeds: Sequence[int], progress: Callable[[str], None] = print) -> dict[str, Any]:
    """What the recorded cell keeps: the comparison; "classes" by prompts on the unseen concepts of
    the first split; "majority", the share of its largest category; and "ranked", the pictures that
    ``search`` finds for ``QUERIES``."""
    from dlcourse.datasets import emoji, emoji_splits

    data = emoji_data()
    found = compare_heads(data, emoji_splits, seeds, progress=progress)
    _, test, encoder, head = _searcher()
    labels = [CATEGORY_NAMES[c] for c in emoji().categories]
    found["classes"] = categories(head, data, test, labels, encoder.encode)
    own = [labels[i] for i in test.tolist()]
    found["majority"] = max(own.count(c) for c in set(own)) / len(own)
    found["ranked"] = {query: search(query) for query in QUERIES}
    return found
