"""Training one contestant of section 121.1a at several rates with several seeds, all in one step.

The weights of equal models lie in one tensor, with an axis for the models, and ``vmap`` runs the
forward pass of all; on a GPU the whole step is captured.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import binary_cross_entropy_with_logits

from dlcourse.multimodal_fusion.audio_visual.model import AudioVisualModel
from dlcourse.multimodal_fusion.experiments.audio_visual_data import Clips
from dlcourse.multimodal_fusion.experiments.audio_visual_training import (
    Job,
    make_model,
    seen_by,
)
from dlcourse.multimodal_fusion.experiments.captured import Captured, set_rate

WARM_UP, HELD = 0.05, 0.7  # parts of a training: until the rate is full, and until it falls


def rate_part(step: int, steps: int) -> float:
    """Which part of its rate a step has: a warm-up, then all of it, then a line down to 0.

    The rate is held for most of the training: a plateau is not left in steps that change little.
    """
    up, held = max(1.0, WARM_UP * steps), HELD * steps
    return min(1.0, (step + 1) / up, (steps - step) / (steps - held))


class Stack:
    """A contestant at all ``rates`` with all ``seeds``, ready to be trained.

    Models of one seed begin alike and see the same batches, whatever their rate or name.

    Args:
        name: of a contestant.
        rates, seeds: there is a model for each of each.
        data: clips to train on.
        batch_size, dim: of all models.
        dropout: probability that an example loses one modality.
    """

    def __init__(
        self,
        name: str,
        rates: Sequence[float],
        seeds: Sequence[int],
        data: Clips,
        *,
        batch_size: int,
        dim: int,
        dropout: float = 0.0,
    ) -> None:
        self.name, self.rates, self.seeds, self.data = name, tuple(rates), tuple(seeds), data
        self.batch_size, self.device = batch_size, data.mel.device
        self.job, self.dim = Job(name, self.seeds[0], 0.0, dropout), dim
        fresh = [make_model(self.job._replace(seed=seed), dim) for seed in seeds]
        self.model = make_model(self.job, dim).to(self.device)  # its structure alone is used
        on_gpu = self.device.type == "cuda"
        #: For each rate its models' weights, stacked over the seeds, and their optimizer.
        self.weights: list[dict[str, Tensor]] = []
        self.optimizers = []
        for _ in rates:
            states = [dict(model.named_parameters()) for model in fresh]
            weights = {
                key: torch.stack([state[key].detach() for state in states]).to(self.device)
                for key in states[0]
            }
            self.weights.append({key: value.requires_grad_() for key, value in weights.items()})
            optimizer = torch.optim.AdamW(
                list(weights.values()), torch.tensor(0.0, device=self.device) if on_gpu else 0.0,
                weight_decay=0.05, betas=(0.9, 0.98), fused=on_gpu or None, capturable=on_gpu,
            )  # fmt: skip
            self.optimizers.append(optimizer)
        self.captured = Captured(self._step, self.example(), self.optimizers)

    def example(self) -> list[Tensor]:
        """Inputs of a step: which clips the models of each seed see, (seeds, batch)."""
        return [torch.zeros(len(self.seeds), self.batch_size, dtype=torch.long, device=self.device)]

    def _step(self, chosen: Tensor) -> Tensor:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        weights = {key: torch.cat([w[key] for w in self.weights]) for key in self.weights[0]}
        chosen = chosen.repeat(len(self.rates), 1)  # (models, batch)
        inputs = seen_by(self.name, self.data.mel[chosen], self.data.frames[chosen])
        # Plain products and a softmax: they have a rule for a further axis on every device.
        with sdpa_kernel(SDPBackend.MATH):
            logits = self._forward(weights, *inputs)  # (models, batch, 16)
        each = binary_cross_entropy_with_logits(logits, self.data.target[chosen], reduction="none")
        losses = each.mean((1, 2))
        losses.sum().backward()  # each model's weights are in its own term only
        for optimizer in self.optimizers:
            optimizer.step()
        return losses.detach()

    def _forward(
        self, weights: dict[str, Tensor], mel: Tensor | None, frames: Tensor | None
    ) -> Tensor:
        """Logits of all models, each for its own batch."""
        along = (0, *(None if x is None else 0 for x in (mel, frames)))
        call = vmap(
            # A block over itself has one norm under two names: it is put in by the first.
            lambda own, *inputs: functional_call(self.model, own, inputs, tie_weights=False),
            along, randomness="different",
        )  # fmt: skip
        return call(weights, mel, frames)

    def seconds(self) -> float:
        """Of one step of all models; to be asked before training."""
        return self.captured.seconds(self.example())

    def train(self, steps: int) -> dict[float, list[AudioVisualModel]]:
        """Take ``steps`` steps; for each rate its models, in the order of the seeds."""
        torch.manual_seed(self.seeds[0])  # of modality dropout
        generators = [torch.Generator(self.device).manual_seed(seed) for seed in self.seeds]
        size, n = (self.batch_size,), len(self.data.mel)
        for k in range(steps):
            for rate, optimizer in zip(self.rates, self.optimizers, strict=True):
                set_rate(optimizer, rate * rate_part(k, steps))
            self.captured(
                torch.stack(
                    [torch.randint(n, size, generator=g, device=self.device) for g in generators]
                )
            )
        return {
            rate: [self._one(weights, k) for k in range(len(self.seeds))]
            for rate, weights in zip(self.rates, self.weights, strict=True)
        }

    @torch.no_grad()
    def _one(self, weights: dict[str, Tensor], k: int) -> AudioVisualModel:
        model = make_model(self.job, self.dim).to(self.device)
        for key, value in model.named_parameters():
            value.copy_(weights[key][k])
        return model.eval()
