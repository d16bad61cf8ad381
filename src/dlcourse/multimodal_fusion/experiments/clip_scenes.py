"""CLIP from scratch on captioned scenes: objectives and numbers of negatives, trained alike.

Chapter: ``121_multimodal_fusion/2a_clip`` (its recorded cell ``scenes``).
"""

from __future__ import annotations

import math
import statistics
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
    batch: int = 1024
    steps: int = 150
    rates: tuple[float, ...] = (5e-4, 1.5e-3, 4.5e-3)
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Contestant:
    """An objective, and how many pairs it sees at a time."""

    kind: str  # "clip", "siglip", "swaps" or "words"
    group: int | None = None  # pairs that are compared with each other; None: the whole batch
    batch: int | None = None  # None: the sizes' own
    temperature: float = 0.07
    learned: bool = True  # the temperature


#: Of the recorded cell, with its batch of 1,024 pairs; all see as many pairs.
CONTESTANTS = {
    "CLIP": Contestant("clip"),
    "CLIP, 255 negatives": Contestant("clip", 256),
    "CLIP, 63 negatives": Contestant("clip", 64),
    "CLIP, 15 negatives": Contestant("clip", 16),
    "CLIP, batch of 512": Contestant("clip", batch=512),
    "CLIP, batch of 256": Contestant("clip", batch=256),
    "CLIP, batch of 128": Contestant("clip", batch=128),
    "CLIP, τ = 0.07 fixed": Contestant("clip", learned=False),
    "CLIP, τ = 1 fixed": Contestant("clip", temperature=1.0, learned=False),
    "CLIP and swapped captions": Contestant("swaps"),
    "SigLIP": Contestant("siglip", temperature=0.1),
    "SigLIP, 255 negatives": Contestant("siglip", 256, temperature=0.1),
    "SigLIP, 63 negatives": Contestant("siglip", 64, temperature=0.1),
    "SigLIP, 15 negatives": Contestant("siglip", 16, temperature=0.1),
    "bag of words": Contestant("words"),
}


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
        logit_bias=-10.0 if contestant.kind == "siglip" else None,
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


def train(
    contestant: Contestant,
    bank: Bank,
    sizes: Sizes,
    rate: float,
    seed: int,
    device: torch.device,
    watch: Callable[[CLIP, int], None] | None = None,
) -> CLIP:
    """Train a contestant for as many pairs as ``steps`` batches have: AdamW, warm-up and cosine.

    On a GPU the step is captured as a graph of kernels, so that small batches cost what they
    compute. ``watch(model, step)`` is called before each step (on a CPU alone).
    """
    torch.manual_seed(seed)
    model = scene_clip(sizes, contestant).to(device, memory_format=torch.channels_last)
    batch = contestant.batch or sizes.batch
    steps = sizes.steps * sizes.batch // batch
    cuda = device.type == "cuda"
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.dim() > 1]
    others = [p for p in trained if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    lr = torch.zeros((), device=device) if cuda else 0.0
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), capturable=cuda)
    index = torch.zeros(batch, dtype=torch.long, device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda, cache_enabled=False):
            loss = loss_of(model, contestant, bank, index)
        loss.backward()
        optimizer.step()

    run = captured(step, optimizer) if cuda else step
    generator = torch.Generator(device).manual_seed(1000 + seed)
    scenes = len(bank.tokens)
    for k in range(steps):
        if watch is not None:
            watch(model, k)
        now = rate * schedule(k, steps)
        for group in optimizer.param_groups:
            if cuda:
                group["lr"].fill_(now)
            else:
                group["lr"] = now
        index.copy_(torch.randint(scenes, (batch,), generator=generator, device=device))
        if not cuda:
            optimizer.zero_grad()
        run()
    return model.eval()


def schedule(step: int, steps: int) -> float:
    """A linear warm-up over a tenth of the steps, then a cosine to 0."""
    warmup = max(1, steps // 10)
    done = max(0.0, (step - warmup) / max(1, steps - warmup))
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * done))


def captured(step: Callable[[], None], optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """The step as a CUDA graph. It runs three times before, at the rate 0."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            step()
    torch.cuda.current_stream().wait_stream(stream)
    optimizer.zero_grad(set_to_none=True)  # so that the graph's backward writes, and adds nothing
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


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


def compare(
    sizes: Sizes,
    device: torch.device,
    contestants: dict[str, Contestant] = CONTESTANTS,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train all: each rate with the first seed, the rate that validates best with the others too.

    The last row, "pixels, ridge", is ``linear_baseline``'s; "untrained" is the gap of a new CLIP.

    Returns for each contestant "tuning" (rate: R@1 on validation), "rate", and for each measure
    of ``measure`` a list over seeds.
    """
    from dlcourse.multimodal_fusion.experiments.clip_scene_tests import linear_baseline

    bank, tests = Bank(sizes, device), Tests(sizes, device)
    found: dict[str, Any] = {}
    for name, contestant in contestants.items():
        if contestant.group and contestant.group > (contestant.batch or sizes.batch):
            contestant = replace(contestant, group=None)
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
    return found
