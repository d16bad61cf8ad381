"""CLIP from scratch on captioned scenes: objectives and numbers of negatives, trained alike.

Chapter: ``121_multimodal_fusion/2a_clip`` (its recorded cell ``scenes``).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.datasets.scenes import (
    SCENE_CONTEXT,
    SCENE_WORDS,
    Scenes,
    captioned_scenes,
    scene_tokens,
)
from dlcourse.multimodal_fusion.clip.conv_tower import ConvTower
from dlcourse.multimodal_fusion.clip.loss import grouped_clip_loss
from dlcourse.multimodal_fusion.clip.metrics import modality_gap
from dlcourse.multimodal_fusion.clip.model import CLIP
from dlcourse.multimodal_fusion.clip.towers import TextTower
from dlcourse.multimodal_fusion.experiments.captured import Captured, set_rate

__all__ = ["CONTESTANTS", "Bank", "Contestant", "Sizes", "compare", "scene_clip", "train"]

VOCABULARY = len(SCENE_WORDS) + 3


@dataclass(frozen=True)
class Sizes:
    """What a run is made of. The defaults are those of the recorded cell."""

    image: int = 48
    widths: tuple[int, ...] = (48, 96, 192)
    text_width: int = 192
    text_depth: int = 2
    embed: int = 128
    bank: int = 131072  # scenes to train on
    pairs: float = 0.75  # share of them with two objects
    test: int = 4000  # scenes of each test
    batch: int = 512
    steps: int = 600
    least: int = 400  # steps: with fewer the contest says only who starts fast
    limit: float | None = 180.0  # seconds for all; steps become fewer where it must be
    rates: tuple[float, ...] = (1.5e-4, 5e-4, 1.5e-3, 4.5e-3)
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Contestant:
    """An objective, and how many pairs it sees at a time."""

    kind: str  # "clip", "siglip", "swaps" or "words"
    group: int | None = None  # pairs that are compared with each other; None: the whole batch
    batch: int | None = None  # None: the sizes' own
    temperature: float = 0.07
    learned: bool = True  # the temperature


#: Of the recorded cell, with its batch of 512 pairs; all see as many pairs. SigLIP begins with
#: t' = log 10 and b = -10, as in its paper.
CONTESTANTS = {
    "CLIP": Contestant("clip"),
    "CLIP, 63 negatives": Contestant("clip", 64),
    "CLIP, 15 negatives": Contestant("clip", 16),
    "CLIP, τ = 1 fixed": Contestant("clip", temperature=1.0, learned=False),
    "CLIP and swapped captions": Contestant("swaps"),
    "SigLIP": Contestant("siglip", temperature=0.1),
    "SigLIP, 63 negatives": Contestant("siglip", 64, temperature=0.1),
    "SigLIP, 15 negatives": Contestant("siglip", 16, temperature=0.1),
    "bag of words": Contestant("words"),
}
SIGLIP_BIAS = -10.0


class Bank:
    """Scenes to train on, kept on the device: pictures as bytes, captions, swapped captions."""

    def __init__(self, sizes: Sizes, device: torch.device, seed: int = 0) -> None:
        generator = torch.Generator(device).manual_seed(seed)
        parts = []
        for start in range(0, sizes.bank, 8192):
            n = min(8192, sizes.bank - start)
            scenes = captioned_scenes(n, generator, size=sizes.image, pairs=sizes.pairs)
            swapped = scene_tokens(scenes.factors.swap_objects(), generator)
            f = scenes.factors
            # A swap is another caption only where the words that are always there differ.
            other = (f.colour[:, 0] != f.colour[:, 1]) | (f.shape[:, 0] != f.shape[:, 1])
            parts.append(
                (to_bytes(scenes.images), scenes.tokens, swapped, other & (f.relation >= 0))
            )
        self.images, self.tokens, self.swapped, self.differs = (
            torch.cat(part) for part in zip(*parts)
        )


def to_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)


def from_bytes(images: Tensor) -> Tensor:
    """Bytes → about -2 … 2, what the towers see."""
    return (images.float() / 255 - 0.25) / 0.25


def scene_clip(sizes: Sizes, contestant: Contestant = CONTESTANTS["CLIP"]) -> CLIP:
    """A small CLIP for scenes; for "words" its image tower and a layer for the vocabulary."""
    vision = ConvTower(sizes.image, sizes.widths)
    text = TextTower(
        VOCABULARY,
        SCENE_CONTEXT,
        sizes.text_width,
        sizes.text_depth,
        heads=max(1, sizes.text_width // 48),
    )
    model = CLIP(
        vision,
        text,
        VOCABULARY if contestant.kind == "words" else sizes.embed,
        temperature=contestant.temperature,
        logit_bias=SIGLIP_BIAS if contestant.kind == "siglip" else None,
    )
    model.logit_scale.requires_grad_(contestant.learned and contestant.kind != "words")
    if contestant.kind == "words":
        model.word_bias = nn.Parameter(torch.zeros(VOCABULARY))
        model.text_model.requires_grad_(False)
        model.text_projection.requires_grad_(False)
    return model


def presence(tokens: Tensor) -> Tensor:
    """Tokens (N, L) → (N, VOCABULARY): 1 for each word that a caption has."""
    found = torch.zeros(len(tokens), VOCABULARY, device=tokens.device)
    return found.scatter_(1, tokens, 1.0) * (torch.arange(VOCABULARY, device=tokens.device) > 2)


def word_logits(model: CLIP, images: Tensor) -> Tensor:
    """A logit for each word of the vocabulary, from a picture alone: (N, VOCABULARY)."""
    return model.image_projection(model.vision_model(images)) + model.word_bias


def loss_of(model: CLIP, contestant: Contestant, bank: Bank, index: Tensor) -> Tensor:
    """The contestant's loss on some scenes of the bank."""
    images, tokens = from_bytes(bank.images[index]), bank.tokens[index]
    if contestant.kind == "words":
        logits = word_logits(model, images).float()
        return F.binary_cross_entropy_with_logits(logits, presence(tokens)) * VOCABULARY
    if contestant.kind == "swaps":
        x = model.encode_image(images)
        y = model.encode_text(torch.cat([tokens, bank.swapped[index]]))
        with torch.autocast(x.device.type, enabled=False):
            return swaps_loss(x.float(), y.float(), model.scale(), bank.differs[index])
    x, y, scale = model(images, tokens)
    group = min(contestant.group or len(index), len(index))
    if contestant.kind == "clip":
        return grouped_clip_loss(x, y, scale, group)
    with torch.autocast(x.device.type, enabled=False):
        x, y = (z.float().view(-1, group, z.shape[1]) for z in (x, y))
        logits = scale * (x @ y.mT) + model.logit_bias  # (G, group, group)
        right = logits.diagonal(dim1=1, dim2=2).sum()
        return (-F.logsigmoid(-logits).sum() - right) / len(index)


def swaps_loss(x: Tensor, y: Tensor, scale: Tensor, differs: Tensor) -> Tensor:
    """CLIP's loss with B swapped captions behind the B right ones, y (2B, D). Pictures are
    compared with all but the swaps that say the same as the caption; captions with pictures."""
    logits = scale * (x @ y.T)  # (B, 2B)
    target = torch.arange(len(x), device=x.device)
    pictures = F.cross_entropy(logits[:, : len(x)].T, target)
    no_caption = torch.cat([torch.zeros_like(differs), ~differs])
    return (F.cross_entropy(logits.masked_fill(no_caption, -1e4), target) + pictures) / 2


class Training:
    """A contestant with a seed, ready to be trained with AdamW; on a GPU its step is captured, so
    that small batches cost what they compute."""

    def __init__(
        self, contestant: Contestant, bank: Bank, sizes: Sizes, seed: int, device: torch.device
    ) -> None:
        torch.manual_seed(seed)
        self.contestant, self.bank, self.sizes, self.seed = contestant, bank, sizes, seed
        self.device = device
        self.model = scene_clip(sizes, contestant).to(device, memory_format=torch.channels_last)
        self.batch = contestant.batch or sizes.batch
        cuda = device.type == "cuda"
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": 0.05},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, torch.tensor(0.0, device=device) if cuda else 0.0,
            betas=(0.9, 0.98), capturable=cuda,
        )  # fmt: skip
        self.captured = Captured(self._step, self.example(), [self.optimizer])

    def example(self) -> list[Tensor]:
        """The input of a step: which scenes of the bank it sees."""
        return [torch.arange(self.batch, device=self.device) % len(self.bank.tokens)]

    def _step(self, index: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        cuda = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=cuda, cache_enabled=False):
            loss = loss_of(self.model, self.contestant, self.bank, index)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def run(self, rate: float, watch: Callable[[CLIP, int], None] | None = None) -> CLIP:
        """Train for as many pairs as ``sizes.steps`` batches of ``sizes.batch`` have."""
        steps = self.sizes.steps * self.sizes.batch // self.batch
        generator = torch.Generator(self.device).manual_seed(1000 + self.seed)
        for k in range(steps):
            if watch is not None:
                watch(self.model, k)
            set_rate(self.optimizer, rate * schedule(k, steps))
            size = (self.batch,)
            self.captured(
                torch.randint(
                    len(self.bank.tokens), size, generator=generator, device=self.device
                )
            )
        return self.model.eval()


def train(
    contestant: Contestant,
    bank: Bank,
    sizes: Sizes,
    rate: float,
    seed: int,
    device: torch.device,
    watch: Callable[[CLIP, int], None] | None = None,
) -> CLIP:
    """Train a contestant: AdamW, warm-up and cosine. ``watch(model, step)`` is called before each
    step."""
    return Training(contestant, bank, sizes, seed, device).run(rate, watch)


def steps_within(left: float, sizes: Sizes, trainings: int, second: float) -> int:
    """How many steps of ``second`` seconds each of the trainings can take in the seconds ``left``,
    2/5 of a second apart for what comes before and after a training.

    At most ``sizes.steps``. Raises RuntimeError for fewer than ``sizes.least``.
    """
    fitting = min(sizes.steps, 10 * int((left / trainings - 0.4) / second / 10))
    if fitting < sizes.least:
        raise RuntimeError(
            f"in {left:.0f} s fit {fitting} steps of each of {trainings} trainings, at "
            f"{1000 * second:.1f} ms, and {sizes.least} are needed: take fewer contestants or "
            "rates, or another device"
        )
    return fitting


def schedule(step: int, steps: int) -> float:
    """A linear warm-up over a tenth of the steps, then a cosine to 0."""
    warmup = max(1, steps // 10)
    done = max(0.0, (step - warmup) / max(1, steps - warmup))
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def scores(model: CLIP, contestant: Contestant, images: Tensor, tokens: Tensor) -> Tensor:
    """How well each picture fits each caption: (N, M)."""
    parts = images.split(2048)
    if contestant.kind == "words":
        logits = torch.cat([word_logits(model, from_bytes(part)) for part in parts])
        # log p of exactly these words: Σ_w y_w l_w − Σ_w log(1 + exp l_w)
        return logits @ presence(tokens).T - F.softplus(logits).sum(1, keepdim=True)
    x = torch.cat([model.encode_image(from_bytes(part)) for part in parts])
    return x @ model.encode_text(tokens).T


def recalls(score: Tensor, ks: Sequence[int] = (1, 5, 10)) -> list[tuple[float, float]]:
    """(picture → caption, caption → picture) for each k, from a square of scores."""
    own = score.diagonal()
    ranks = (score >= own[:, None]).sum(1), (score >= own).sum(0)
    return [tuple(float((rank <= k).double().mean()) for rank in ranks) for k in ks]


class Tests:
    """Scenes and captions that no training sees; drawn on the CPU, the same for every device."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        from dlcourse.multimodal_fusion.experiments.clip_scene_tests import make_tests

        self.sets: dict[str, Scenes]
        self.prompts: Tensor
        self.sets, self.prompts = make_tests(sizes.test, sizes.image, device)

    def validate(self, model: CLIP, contestant: Contestant) -> float:
        """Mean R@1 of both directions on the validation scenes."""
        scenes = self.sets["validation"]
        score = scores(model, contestant, scenes.images, scenes.tokens)
        return statistics.mean(recalls(score, [1])[0])

    def measure(self, model: CLIP, contestant: Contestant) -> dict[str, float]:
        from dlcourse.multimodal_fusion.experiments.clip_scene_tests import measure

        found = measure(
            lambda images, tokens: scores(model, contestant, images, tokens),
            self.sets,
            self.prompts,
        )
        if contestant.kind == "words":
            return found
        with torch.no_grad():
            scenes = self.sets["seen"]
            x = model.encode_image(from_bytes(scenes.images[:1000]))
            gap = modality_gap(x, model.encode_text(scenes.tokens[:1000]))
        return found | {"gap": gap, "scale": float(model.scale().detach())}


def fitted(contestant: Contestant, sizes: Sizes) -> Contestant:
    """The contestant with groups no larger than the batch."""
    if contestant.group and contestant.group > (contestant.batch or sizes.batch):
        return replace(contestant, group=None)
    return contestant


def compare(
    sizes: Sizes,
    device: torch.device,
    contestants: dict[str, Contestant] = CONTESTANTS,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train all: each rate with the first seed, the rate that validates best with the others too.

    Steps become fewer, the same for all, where the limit asks for it. The row "pixels, ridge" is
    ``linear_baseline``'s; "untrained" is the gap of a new CLIP.

    Returns "steps" as they were, how each step ran, and "results": for each contestant "tuning"
    (rate: R@1 on validation), "rate", and for each measure of ``measure`` a list over seeds.

    Raises RuntimeError, before any training, where fewer than ``sizes.least`` steps would fit.
    """
    from dlcourse.multimodal_fusion.experiments.clip_scene_tests import linear_baseline

    began = time.perf_counter()
    bank, tests = Bank(sizes, device), Tests(sizes, device)
    costs, how = {}, {}
    for name, contestant in contestants.items():
        probe = Training(fitted(contestant, sizes), bank, sizes, sizes.seeds[0], device)
        costs[name] = probe.captured.seconds(probe.example())
        how[name] = probe.captured.how
        del probe
    if sizes.limit is not None:
        left = sizes.limit - (time.perf_counter() - began)
        trainings = len(contestants) * (len(sizes.rates) + len(sizes.seeds) - 1)
        second = statistics.mean(costs.values())
        sizes = replace(sizes, steps=steps_within(left, sizes, trainings, second))
    found: dict[str, Any] = {}
    for name, contestant in contestants.items():
        contestant = fitted(contestant, sizes)
        tuning, models = {}, {}
        for rate in sizes.rates:
            models[rate] = train(contestant, bank, sizes, rate, sizes.seeds[0], device)
            tuning[rate] = tests.validate(models[rate], contestant)
        rate = max(tuning, key=tuning.get)
        measured = []
        for seed in sizes.seeds:
            first = seed == sizes.seeds[0]
            model = models[rate] if first else train(contestant, bank, sizes, rate, seed, device)
            measured.append(tests.measure(model, contestant))
        found[name] = {"tuning": tuning, "rate": rate}
        found[name] |= {key: [m[key] for m in measured] for key in measured[0]}
        progress(f"{name}: rate {rate:g}, R@1 {found[name]['seen i2t@1']}")
    some = slice(20000)
    found["pixels, ridge"] = linear_baseline(
        bank.images[some], bank.tokens[some], tests.sets, tests.prompts
    )
    torch.manual_seed(0)
    new = scene_clip(sizes).to(device).eval()
    found["untrained"] = {"gap": [tests.measure(new, CONTESTANTS["CLIP"])["gap"]]}
    seconds = time.perf_counter() - began
    progress(f"{sizes.steps} steps, {seconds:.0f} s; {how}")
    return {
        "results": found, "steps": sizes.steps, "batch": sizes.batch, "test": sizes.test,
        "rates": list(sizes.rates), "how": how, "step seconds": costs, "seconds": seconds,
    }  # fmt: skip
