"""Naming emoji that were never seen: BLIP-2, its parts left out one by one, and simpler rivals.

Chapter: ``121_multimodal_fusion/2b_blip2`` (recorded cells). Pictures are maps of a frozen
EfficientNet-Lite0, names are written by a frozen SmolLM2. What is trained stands between: a module
from maps ``(B, 25, 320)`` to a soft prompt ``(B, Q, width)``. Several of them are trained at once: the
language model, which costs most, sees their batches as one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcourse.multimodal_fusion.blip2.convert import start_from_bert
from dlcourse.multimodal_fusion.blip2.qformer import QFormer
from dlcourse.multimodal_fusion.blip2.stage1 import itc_similarity, stage1_losses

START = "The picture shows:"  # the text between the soft prompt and the name
KS = (1, 5, 10)


@dataclass
class Emoji:
    """What the runs need, on one device. N concepts, S styles, in the order of ``emoji()``."""

    maps: Tensor  # float16 (S, N, places, 320)
    features: Tensor  # float32 (S, N, 1280): pooled, for the ridge map
    names: list[str]
    name_vectors: Tensor  # float32 (N, 384): MiniLM's
    parts: dict[str, Tensor]  # "train", "validation", "test": indices of concepts
    lm: nn.Module  # frozen
    start: Tensor  # int64 (P,): START's tokens
    lm_ids: Tensor  # int64 (N, T): a name's tokens and the end, padded with 0
    lm_mask: Tensor  # bool (N, T)
    decode: Callable[[Tensor], str]  # tokens of the language model to text
    end: int
    bert_ids: Tensor  # int64 (N, T'): the Q-Former's tokens, from [CLS]
    bert_mask: Tensor
    bert: dict[str, Tensor]  # MiniLM's weights, with which Q-Formers start
    encode: Callable[[list[str]], Tensor]  # texts to MiniLM's vectors
    same_name: Tensor  # int64 (N,): equal for concepts of one name

    @property
    def device(self) -> torch.device:
        return self.maps.device


def load_emoji(device: torch.device, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Emoji:
    """Pictures' maps, names and models, from the cache folder (fetched where they are absent)."""
    from dlcourse.datasets import emoji, emoji_splits
    from dlcourse.multimodal_fusion import frozen

    styles = ("twemoji", "openmoji")
    names = emoji().names
    lm, tokenizer = frozen.smollm2(dtype)
    minilm = frozen.MiniLM()
    lm_tokens = [tokenizer(f" {name}").input_ids + [tokenizer.eos_token_id] for name in names]
    bert_tokens = [encoding.ids for encoding in minilm.tokenizer.encode_batch(names)]
    bert_mask = [encoding.attention_mask for encoding in minilm.tokenizer.encode_batch(names)]
    known: dict[str, int] = {}
    lm_ids, lm_mask = _padded(lm_tokens)
    bert = minilm.model.state_dict()
    minilm.model.to(device)

    def encode(texts: list[str]) -> Tensor:
        minilm_model = minilm.model
        vectors = []
        for i in range(0, len(texts), 256):
            tokens = minilm.tokenizer.encode_batch([text or "." for text in texts[i : i + 256]])
            ids = torch.tensor([t.ids for t in tokens], device=device)
            mask = torch.tensor([t.attention_mask for t in tokens], device=device)
            with torch.inference_mode():
                hidden = minilm_model(input_ids=ids, attention_mask=mask).last_hidden_state
            vectors.append((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        return F.normalize(torch.cat(vectors), dim=-1)

    return Emoji(
        maps=torch.stack([frozen.image_maps(style) for style in styles]).to(device),
        features=torch.stack([frozen.image_features(style) for style in styles]).to(device),
        names=names,
        name_vectors=frozen.name_features().to(device),
        parts={k: v.to(device) for k, v in emoji_splits(seed)._asdict().items()},
        lm=lm.to(device),
        start=torch.tensor(tokenizer(START).input_ids, device=device),
        lm_ids=lm_ids.to(device),
        lm_mask=lm_mask.to(device),
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
        end=tokenizer.eos_token_id,
        bert_ids=torch.tensor(bert_tokens, device=device),
        bert_mask=torch.tensor(bert_mask, device=device).bool(),
        bert={k: v.cpu() for k, v in bert.items()},
        encode=encode,
        same_name=torch.tensor([known.setdefault(n, len(known)) for n in names], device=device),
    )


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """int64 and bool ``(len(rows), longest)``: rows with zeros behind, and where they are real."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(longest) < lengths[:, None]


# What stands between the two frozen models


class QFormerPrompter(nn.Module):
    """BLIP-2's: Q queries and a linear map into the language model's width."""

    def __init__(self, qformer: QFormer, width: int) -> None:
        super().__init__()
        self.qformer, self.lm_proj = qformer, nn.Linear(qformer.dim, width)

    def forward(self, maps: Tensor) -> Tensor:
        return self.lm_proj(self.qformer(maps)[0])


class LinearPrompter(nn.Module):
    """As in LLaVA's first version: each place of the map, through one linear map, is a word."""

    def __init__(self, image_dim: int, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(image_dim), nn.Linear(image_dim, width)

    def forward(self, maps: Tensor) -> Tensor:
        return self.linear(self.norm(maps))


class BlindPrompter(nn.Module):
    """Q learned vectors, the same for every picture: how far does one get without looking?"""

    def __init__(self, num_queries: int, width: int) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.randn(num_queries, width) * 0.1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.words.expand(len(maps), -1, -1)


def new_qformer(data: Emoji, num_queries: int, seed: int, **sizes) -> QFormer:
    """A Q-Former that starts with MiniLM's weights, as the paper's starts with BERT's."""
    sizes = {"dim": 384, "num_heads": 12, "num_layers": 6, "embed_dim": 256, **sizes}
    qformer = QFormer(
        num_queries,
        image_dim=data.maps.shape[-1],
        vocab_size=len(data.bert["embeddings.word_embeddings.weight"]) + 1,
        max_text=32,
        generator=torch.Generator().manual_seed(seed),
        **sizes,
    )
    start_from_bert(qformer, data.bert)
    return qformer.to(data.device)


# Training


def _autocast(device: torch.device):
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _optimizer(model: nn.Module, rate: float, steps: int):
    """AdamW, a warm-up over 5 % of the steps, then a cosine to 0."""
    fused = next(model.parameters()).is_cuda
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05, fused=fused)

    def multiplier(k: int) -> float:
        ramp = min(1.0, (k + 1) / max(1, 0.05 * steps))
        return ramp * 0.5 * (1 + math.cos(math.pi * k / steps))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)


def _draw(data: Emoji, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Maps ``(n, places, 320)`` of training concepts in random styles, and which concepts."""
    train = data.parts["train"]
    which = train[torch.randint(len(train), (n,), generator=generator, device=data.device)]
    style = torch.randint(len(data.maps), (n,), generator=generator, device=data.device)
    return data.maps[style, which].float(), which


def stage1(
    data: Emoji, qformer: QFormer, *, steps: int, batch: int, rate: float, seed: int
) -> list[list[float]]:
    """Train with ITC, ITM and ITG; returns the three losses every tenth of the way."""
    generator = torch.Generator(data.device).manual_seed(seed)
    optimizer, schedule = _optimizer(qformer, rate, steps)
    dec = qformer.words.num_embeddings - 1
    qformer.train()
    curve = []
    for step in range(steps):
        maps, which = _draw(data, batch, generator)
        with _autocast(data.device):
            losses = stage1_losses(
                qformer,
                maps,
                data.bert_ids[which],
                data.bert_mask[which],
                dec_id=dec,
                groups=data.same_name[which],
                generator=generator,
            )
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, steps // 10) == 0:
            curve.append(torch.stack(losses).detach().tolist())
    qformer.eval()
    return curve


def name_losses(data: Emoji, prompts: Tensor, which: Tensor) -> Tensor:
    """Mean loss a token of each name ``(B,)``, behind its soft prompt ``(B, Q, width)``."""
    embed = data.lm.get_input_embeddings()
    ids, mask = data.lm_ids[which], data.lm_mask[which]
    start = embed(data.start).expand(len(which), -1, -1)
    x = torch.cat([prompts.to(start.dtype), start, embed(ids)], dim=1)
    # Padding comes last, and nothing looks ahead: no mask is needed.
    hidden = data.lm.model(inputs_embeds=x, use_cache=False).last_hidden_state
    hidden = hidden[:, x.shape[1] - ids.shape[1] - 1 : -1]  # (B, T, width), one place before
    logits = data.lm.lm_head(hidden).float()
    losses = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
    return (losses * mask).sum(1) / mask.sum(1)


class Trained(NamedTuple):
    """One prompter at its best step by validation."""

    prompter: nn.Module
    validation: float  # mean loss a token, nats
    step: int
    curve: list[list[float]]  # step, training loss, validation loss


def stage2(
    data: Emoji,
    prompters: Sequence[nn.Module],
    rates: Sequence[float],
    *,
    steps: int,
    batch: int,
    seeds: Sequence[int],
    checks: int = 8,
) -> list[Trained]:
    """Train prompters of one Q at once on the names, each by its own rate; the rest is frozen.

    Every ``steps / checks`` steps the validation concepts are looked at, in all styles; the weights
    that were best then are the ones that are returned.
    """
    device = data.device
    generators = [torch.Generator(device).manual_seed(1000 + seed) for seed in seeds]
    tools = [_optimizer(p, r, steps) for p, r in zip(prompters, rates, strict=True)]
    best: list[Trained | None] = [None] * len(prompters)
    curves: list[list[list[float]]] = [[] for _ in prompters]
    every = max(1, steps // checks)
    for prompter in prompters:
        prompter.train()
    for step in range(1, steps + 1):
        drawn = [_draw(data, batch, generator) for generator in generators]
        with _autocast(device):
            prompts = [p(maps) for p, (maps, _) in zip(prompters, drawn, strict=True)]
            losses = name_losses(data, torch.cat(prompts), torch.cat([w for _, w in drawn]))
        losses = losses.unflatten(0, (len(prompters), batch)).mean(1)  # one a prompter
        for optimizer, _ in tools:
            optimizer.zero_grad()
        losses.sum().backward()
        for prompter, (optimizer, schedule) in zip(prompters, tools, strict=True):
            nn.utils.clip_grad_norm_(prompter.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        if step % every == 0 or step == steps:
            for i, prompter in enumerate(prompters):
                loss = validation_loss(data, prompter)
                curves[i].append([step, losses[i].item(), loss])
                if best[i] is None or loss < best[i].validation:
                    best[i] = Trained(copy.deepcopy(prompter).eval(), loss, step, curves[i])
                prompter.train()
    return best


@torch.inference_mode()
def validation_loss(data: Emoji, prompter: nn.Module, part: str = "validation") -> float:
    """Mean loss a token over a part's names, in all styles."""
    prompter.eval()
    total = []
    for maps in data.maps:
        for which in data.parts[part].split(300):
            with _autocast(data.device):
                total.append(name_losses(data, prompter(maps[which].float()), which))
    return torch.cat(total).mean().item()


# Scores


@torch.inference_mode()
def write_names(data: Emoji, prompter: nn.Module, style: int, which: Tensor) -> list[str]:
    """Names that the language model writes, greedily, for the pictures of some concepts."""
    embed = data.lm.get_input_embeddings()
    written = []
    for part in which.split(400):
        with _autocast(data.device):
            prompts = prompter(data.maps[style, part].float())
            start = embed(data.start).expand(len(part), -1, -1)
            x = torch.cat([prompts.to(start.dtype), start], dim=1)
            tokens = data.lm.generate(
                inputs_embeds=x,
                attention_mask=torch.ones(x.shape[:2], dtype=torch.long, device=data.device),
                max_new_tokens=data.lm_ids.shape[1],
                do_sample=False,
                eos_token_id=data.end,
                pad_token_id=data.end,
            )
        written += [data.decode(row).strip().lower() for row in tokens]
    return written


def recalls(scores: Tensor, ks: Sequence[int] = KS) -> list[float]:
    """Share (%) of rows of ``(B, B)`` whose own column is among the k best; ties count against."""
    rank = (scores >= scores.diagonal()[:, None]).sum(1)  # 1 is best
    return [100 * (rank <= k).float().mean().item() for k in ks]


def name_scores(data: Emoji, written: list[str], which: Tensor) -> dict:
    """Exact matches (%), and recall of the right name among the part's by MiniLM's similarity."""
    names = [data.names[i] for i in which.tolist()]
    vectors = data.encode(written)
    exact = [a == b for a, b in zip(written, names, strict=True)]
    return {
        "exact": 100 * sum(exact) / len(exact),
        "recall": recalls(vectors @ data.name_vectors[which].T),
        "different": len(set(written)),
    }


@torch.inference_mode()
def likelihood_recall(
    data: Emoji, prompter: nn.Module, style: int, which: Tensor, pictures: int = 4
) -> list[float]:
    """Recall when all names of ``which`` are ranked by the language model's loss a token.

    Names that are likely for any picture would win: each name's mean loss over the pictures is
    taken off first.
    """
    rows = []
    for part in which.split(pictures):
        with _autocast(data.device):
            prompts = prompter(data.maps[style, part].float())
            losses = name_losses(
                data, prompts.repeat_interleave(len(which), 0), which.repeat(len(part))
            )
        rows.append(-losses.unflatten(0, (len(part), len(which))))
    scores = torch.cat(rows)
    return recalls(scores - scores.mean(0))


@torch.inference_mode()
def itc_recall(data: Emoji, qformer: QFormer, style: int, which: Tensor) -> list[float]:
    """Recall by stage 1's similarity alone, without a language model."""
    qformer.eval()
    queries = qformer.image_proj(qformer(data.maps[style, which].float())[0])
    text = qformer(ids=data.bert_ids[which], text_mask=data.bert_mask[which])[1][:, 0]
    text = F.normalize(qformer.text_proj(text), dim=-1)
    return recalls(itc_similarity(F.normalize(queries, dim=-1), text))


def ridge_recall(data: Emoji, strengths: Sequence[float]) -> tuple[list[list[float]], float]:
    """The closed-form map from pooled features to MiniLM's vectors: recall a style, and its λ.

    λ is chosen by R@1 on validation (fit on train), then the map is fitted on train alone, as
    everything else is.
    """
    train = data.parts["train"]
    x = data.features[:, train].flatten(0, 1).double()
    y = data.name_vectors[train].double().repeat(len(data.features), 1)
    x_mean, y_mean = x.mean(0), y.mean(0)
    gram, cross = (x - x_mean).T @ (x - x_mean), (x - x_mean).T @ (y - y_mean)

    def recall(strength: float, part: str) -> list[list[float]]:
        eye = torch.eye(len(gram), device=gram.device, dtype=gram.dtype)
        weights = torch.linalg.solve(gram + strength * eye, cross)
        which = data.parts[part]
        names = data.name_vectors[which].double()
        guesses = [(f[which].double() - x_mean) @ weights + y_mean for f in data.features]
        return [recalls(F.normalize(guess, dim=1) @ names.T) for guess in guesses]

    best = max(strengths, key=lambda s: sum(r[0] for r in recall(s, "validation")))
    return recall(best, "test"), best
