"""Naming emoji that were never seen: BLIP-2, its parts left out one by one, and simpler rivals.

Chapter: ``121_multimodal_fusion/2b_blip2`` (recorded cells). Pictures are maps of a frozen
EfficientNet-Lite0, names are written by a frozen SmolLM2. What is trained stands between: a module
from maps ``(B, 25, 320)`` to a soft prompt ``(B, Q, width)``. Several of them are trained at once:
the language model, which costs most, sees their batches as one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcourse.multimodal_fusion.blip2.convert import start_from_bert
from dlcourse.multimodal_fusion.blip2.qformer import QFormer
from dlcourse.multimodal_fusion.blip2.stage1 import itc_similarity, stage1_losses
from dlcourse.multimodal_fusion.experiments.captured import (
    Captured,
    new_adamw,
    rate_part,
    set_rate,
)
from dlcourse.multimodal_fusion.experiments.frozen_llama import FrozenLlama

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
    first: Tensor  # int64 (1,): the token before the soft prompt
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
    layers: FrozenLlama = field(init=False)  # lm's layers, to be trained through

    def __post_init__(self) -> None:
        self.layers = FrozenLlama(self.lm)

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
        first=torch.tensor([tokenizer.bos_token_id], device=device),
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


class Stage1:
    """Training with ITC, ITM and ITG, ready to go: on a GPU its step is captured."""

    def __init__(self, data: Emoji, qformer: QFormer, *, batch: int, seed: int) -> None:
        self.data, self.qformer, self.batch = data, qformer.train(), batch
        self.generator = torch.Generator(data.device).manual_seed(seed)
        self.optimizer = new_adamw(qformer)
        torch.manual_seed(seed)  # dropout and negatives; a graph knows torch's own generator
        self.captured = Captured(self._step, self.example(), [self.optimizer])

    def example(self) -> tuple[Tensor, Tensor]:
        """Inputs of a step, the same each time."""
        generator = torch.Generator(self.data.device).manual_seed(0)
        return tuple(x[0] for x in _draw(self.data, 1, self.batch, generator))

    def train(self, steps: int, rate: float) -> list[list[float]]:
        """The three losses every tenth of the way."""
        which, style = _draw(self.data, steps, self.batch, self.generator)
        curve = []
        for k in range(steps):
            set_rate(self.optimizer, rate * rate_part(k, steps))
            losses = self.captured(which[k], style[k])
            if (k + 1) % max(1, steps // 10) == 0:
                curve.append(losses.tolist())
        self.qformer.eval()
        self.optimizer.zero_grad()
        return curve

    def _step(self, which: Tensor, style: Tensor) -> Tensor:
        data = self.data
        self.optimizer.zero_grad()
        with _autocast(data.device):
            losses = stage1_losses(
                self.qformer,
                data.maps[style, which].float(),
                data.bert_ids[which],
                data.bert_mask[which],
                dec_id=self.qformer.words.num_embeddings - 1,
                groups=data.same_name[which],
            )
        sum(losses).backward()
        self.optimizer.step()
        return torch.stack(losses).detach()


def _autocast(device: torch.device):
    on_gpu = device.type == "cuda"  # a graph must not keep another's casts: no cache
    return torch.autocast(device.type, torch.bfloat16, enabled=on_gpu, cache_enabled=False)


def _draw(
    data: Emoji, steps: int, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Training concepts and styles for all steps: int64 ``(steps, n)`` each."""
    train, shape = data.parts["train"], (steps, n)
    which = train[torch.randint(len(train), shape, generator=generator, device=data.device)]
    return which, torch.randint(
        len(data.maps), shape, generator=generator, device=data.device
    )


def asked(data: Emoji, prompts: Tensor) -> Tensor:
    """What the language model reads before a name: its first token, the prompt, START.

    ``(B, Q, width)`` → ``(B, 1 + Q + P, width)``. A language model rests much of its attention on
    its first position, whatever stands there (Xiao and others, 2024). A soft prompt there must
    learn to be rested on, and some do so only with dropout's noise, which is off in use.
    """
    embed = data.lm.get_input_embeddings()
    first, start = (embed(x).expand(len(prompts), -1, -1) for x in (data.first, data.start))
    return torch.cat([first, prompts.to(start.dtype), start], dim=1)


def name_losses(
    data: Emoji, prompts: Tensor, which: Tensor, length: int | None = None
) -> Tensor:
    """Mean loss a token of each name ``(B,)``, behind its soft prompt ``(B, Q, width)``.

    ``length``: at least that of the longest of these names; less padding is less work.
    """
    embed = data.lm.get_input_embeddings()
    ids, mask = data.lm_ids[which][:, :length], data.lm_mask[which][:, :length]
    x = torch.cat([asked(data, prompts), embed(ids[:, :-1])], dim=1)
    # Padding comes last, and nothing looks ahead: no mask is needed.
    hidden = data.layers(x)[:, -ids.shape[1] :]  # (B, T, width): each one place before its token
    logits = data.layers.logits(hidden).float()
    losses = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view_as(ids)
    return (losses * mask).sum(1) / mask.sum(1)


def longest(data: Emoji, which: Tensor) -> int:
    """Tokens of the longest of some names, the end included."""
    return int(data.lm_mask[which].sum(1).max())


class Trained(NamedTuple):
    """One prompter at its best step by validation."""

    prompter: nn.Module
    validation: float  # mean loss a token, nats
    step: int
    curve: list[list[float]]  # step, training loss, validation loss


class Stage2:
    """Training of prompters of one Q at once on the names; the rest is frozen.

    On a GPU the step of all is captured.
    """

    def __init__(
        self, data: Emoji, prompters: Sequence[nn.Module], *, batch: int, seeds: Sequence[int]
    ) -> None:
        self.data, self.prompters, self.batch = data, [p.train() for p in prompters], batch
        self.generators = [torch.Generator(data.device).manual_seed(1000 + s) for s in seeds]
        self.optimizers = [new_adamw(p) for p in prompters]
        self.length = longest(data, data.parts["train"])
        self.captured = Captured(self._step, self.example(), self.optimizers)

    def example(self) -> tuple[Tensor, Tensor]:
        """Inputs of a step, the same each time."""
        generator = torch.Generator(self.data.device).manual_seed(0)
        return _draw(self.data, len(self.prompters), self.batch, generator)

    def train(self, steps: int, rates: Sequence[float], checks: int = 8) -> list[Trained]:
        """Each prompter by its own rate.

        Every ``steps / checks`` steps the validation concepts are looked at, in all styles; the
        weights that were best then are the ones that are returned.
        """
        data, prompters = self.data, self.prompters
        drawn = [_draw(data, steps, self.batch, g) for g in self.generators]
        which, style = (torch.stack(x, dim=1) for x in zip(*drawn, strict=True))
        best: list[Trained | None] = [None] * len(prompters)
        curves: list[list[list[float]]] = [[] for _ in prompters]
        every = max(1, steps // checks)
        for k in range(steps):
            for optimizer, rate in zip(self.optimizers, rates, strict=True):
                set_rate(optimizer, rate * rate_part(k, steps))
            losses = self.captured(which[k], style[k])
            if (k + 1) % every and k + 1 < steps:
                continue
            for i, (prompter, loss) in enumerate(zip(prompters, losses.tolist(), strict=True)):
                checked = validation_loss(data, prompter)
                curves[i].append([k + 1, loss, checked])
                if best[i] is None or checked < best[i].validation:
                    kept = copy.deepcopy(prompter).eval()
                    best[i] = Trained(kept, checked, k + 1, curves[i])
                prompter.train()
        return best

    def _step(self, which: Tensor, style: Tensor) -> Tensor:
        """Concepts and styles ``(prompters, batch)`` → a loss for each prompter."""
        maps = self.data.maps[style, which].float()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        with _autocast(maps.device):
            prompts = [p(x) for p, x in zip(self.prompters, maps, strict=True)]
            losses = name_losses(self.data, torch.cat(prompts), which.flatten(), self.length)
        losses = losses.view(which.shape).mean(1)
        losses.sum().backward()
        for prompter, optimizer in zip(self.prompters, self.optimizers, strict=True):
            nn.utils.clip_grad_norm_(prompter.parameters(), 1.0)
            optimizer.step()
        return losses.detach()


@torch.inference_mode()
def validation_loss(data: Emoji, prompter: nn.Module, part: str = "validation") -> float:
    """Mean loss a token over a part's names, in all styles."""
    prompter.eval()
    total = []
    length = longest(data, data.parts[part])
    for which in data.parts[part].split(300):
        maps = data.maps[:, which].flatten(0, 1).float()
        with _autocast(data.device):
            names = which.repeat(len(data.maps))
            total.append(name_losses(data, prompter(maps), names, length))
    return torch.cat(total).mean().item()


# Scores


@torch.inference_mode()
def write_names(
    data: Emoji, prompters: Sequence[nn.Module], styles: Sequence[int], which: Tensor
) -> list[list[list[str]]]:
    """Names that the language model writes, greedily, for the pictures of some concepts.

    All at once, as a token costs the host the same for one picture as for thousands. Returns a
    list for each prompter of one for each style of N names. None is longer than the longest name.
    """
    with _autocast(data.device):
        prompts = torch.cat(
            [p(data.maps[style, which].float()) for p in prompters for style in styles]
        )
    written = []
    for part in prompts.split(2400):
        x = asked(data, part)
        tokens = data.lm.generate(
            inputs_embeds=x,
            attention_mask=torch.ones(x.shape[:2], dtype=torch.long, device=data.device),
            max_new_tokens=data.lm_ids.shape[1],
            do_sample=False,
            eos_token_id=data.end,
            pad_token_id=data.end,
        )
        written += [data.decode(row).strip().lower() for row in tokens.cpu()]
    lists = [written[i : i + len(which)] for i in range(0, len(written), len(which))]
    return [lists[i : i + len(styles)] for i in range(0, len(lists), len(styles))]


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


def likelihood_recall(
    data: Emoji, prompter: nn.Module, style: int, which: Tensor
) -> list[float]:
    """Recall when all names of ``which`` are ranked by the language model's loss a token.

    Names that are likely for any picture would win: each name's mean loss over the pictures is
    taken off first.
    """
    scores = likelihoods(data, prompter, style, which)
    return recalls(scores - scores.mean(0))


@torch.inference_mode()
def likelihoods(
    data: Emoji, prompter: nn.Module, style: int, which: Tensor, pictures: int = 16
) -> Tensor:
    """Mean log-likelihood a token of each name (columns) behind each picture (rows)."""
    scores = torch.zeros(len(which), len(which), device=data.device)
    by_length = data.lm_mask[which].sum(1).argsort()
    groups = [(names, longest(data, which[names])) for names in by_length.chunk(4)]
    for rows in torch.arange(len(which), device=data.device).split(pictures):
        with _autocast(data.device):
            prompts = prompter(data.maps[style, which[rows]].float())
            for names, length in groups:  # of about one length: little padding
                losses = name_losses(
                    data,
                    prompts.repeat_interleave(len(names), 0),
                    which[names].repeat(len(rows)),
                    length,
                )
                scores[rows[:, None], names] = -losses.view(len(rows), len(names))
    return scores


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
