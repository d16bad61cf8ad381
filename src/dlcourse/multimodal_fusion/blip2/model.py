"""BLIP-2 whole: frozen image model → Q-Former → frozen language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcourse.multimodal_fusion.blip2.qformer import QFormer
from dlcourse.multimodal_fusion.blip2.stage1 import Stage1Losses, stage1_losses

IGNORED = -100  # label of a position that the loss leaves out, in transformers


def with_soft_prompt(
    prompt: Tensor, embeddings: Tensor, text_mask: Tensor, labels: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Put the prompt before the text: embeddings, mask and labels of the language model.

    Args:
        prompt: ``(B, Q, D)``, the queries in the language model's width.
        embeddings: ``(B, T, D)``, of the text's tokens.
        text_mask: ``(B, T)``, 1 or True for tokens.
        labels: int64 ``(B, T)``, or None.

    Returns:
        ``(B, Q + T, D)``, int64 ``(B, Q + T)``, and labels ``(B, Q + T)`` that leave the prompt and
        the padding out of the loss (None if there were none).
    """
    b, q, _ = prompt.shape
    together = torch.cat([prompt.to(embeddings.dtype), embeddings], dim=1)
    mask = torch.cat([text_mask.new_ones(b, q), text_mask], dim=1).long()
    if labels is not None:
        labels = labels.masked_fill(~text_mask.bool(), IGNORED)
        labels = torch.cat([labels.new_full((b, q), IGNORED), labels], dim=1)
    return together, mask, labels


class BLIP2(nn.Module):
    """A Q-Former that tells a frozen language model what a frozen image model sees.

    Both models are frozen here: no gradients, and ``eval()`` for good, whatever ``train()`` says.

    Args:
        vision_model: from pictures to features ``(B, N, qformer.image_dim)``; ``nn.Identity()``
            where the features were computed before.
        qformer: what is trained, with ``lm_proj``.
        language_model: a causal model of transformers; None for stage 1 alone.
    """

    def __init__(
        self, vision_model: nn.Module, qformer: QFormer, language_model: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.vision_model = vision_model.requires_grad_(False)
        self.qformer = qformer
        self.language_model = language_model
        if language_model is not None:
            language_model.requires_grad_(False)
            width = language_model.get_input_embeddings().embedding_dim
            self.lm_proj = nn.Linear(qformer.dim, width)
        self.train(self.training)

    def train(self, mode: bool = True) -> BLIP2:
        super().train(mode)
        self.vision_model.eval()  # dropout off, running statistics of batch norm left alone
        if self.language_model is not None:
            self.language_model.eval()
        return self

    @torch.no_grad()
    def image_features(self, images: Tensor) -> Tensor:
        """``(B, N, image_dim)``. Raises ValueError for features of another shape, or not finite."""
        features = self.vision_model(images)
        if features.ndim != 3 or not bool(features.isfinite().all()):
            raise ValueError(
                "the image model must give finite features (B, N, image_dim), one row a place: got "
                f"{tuple(features.shape)}, finite: {bool(features.isfinite().all())}"
            )
        return features

    def stage1(self, images: Tensor, ids: Tensor, text_mask: Tensor, **options) -> Stage1Losses:
        """ITC, ITM and ITG; ``ids`` of the Q-Former's own vocabulary. See ``stage1_losses``."""
        return stage1_losses(
            self.qformer, self.image_features(images), ids, text_mask, **options
        )

    def soft_prompt(self, images: Tensor) -> Tensor:
        """The queries as words that have no name: ``(B, Q, width of the language model)``."""
        queries, _ = self.qformer(self.image_features(images))
        return self._projection()(queries)

    def forward(
        self, images: Tensor, ids: Tensor, text_mask: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Stage 2: the language model's loss on ``labels`` (``ids`` if None), behind the prompt.

        ``ids`` are of the language model's vocabulary; −100 in ``labels`` leaves tokens out, as
        those of a question.

        Raises:
            ValueError: pictures, texts and labels that do not belong together, or no label at all:
                the mean over none would be NaN.
        """
        labels = ids if labels is None else labels
        if not len(images) == len(ids) or not ids.shape == text_mask.shape == labels.shape:
            raise ValueError(
                f"{len(images)} pictures; ids {tuple(ids.shape)}, text_mask "
                f"{tuple(text_mask.shape)}, labels {tuple(labels.shape)}: give each picture its own"
            )
        if not bool(((labels != IGNORED) & text_mask.bool()).any()):
            raise ValueError("no token of the batch has a label: leave empty captions out")
        embed = self._projection() and self.language_model.get_input_embeddings()
        together, mask, labels = with_soft_prompt(
            self.soft_prompt(images), embed(ids), text_mask, labels
        )
        out = self.language_model(inputs_embeds=together, attention_mask=mask, labels=labels)
        return out.loss

    @torch.no_grad()
    def generate(
        self, images: Tensor, ids: Tensor | None = None, max_new_tokens: int = 20, **options
    ) -> Tensor:
        """New tokens, int64 ``(B, at most max_new_tokens)``, greedily unless ``options`` say else.

        Args:
            ids: int64 ``(B, T)``, without padding: the beginning of the text, if there is one.
            options: of the language model's ``generate``.
        """
        prompt = self.soft_prompt(images)
        if ids is not None:
            embed = self.language_model.get_input_embeddings()
            prompt = torch.cat([prompt.to(embed.weight.dtype), embed(ids)], dim=1)
        prompt = prompt.to(self.language_model.dtype)
        return self.language_model.generate(
            inputs_embeds=prompt,
            attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device),
            max_new_tokens=max_new_tokens,
            **{"do_sample": False, **options},
        )

    def _projection(self) -> nn.Linear:
        if self.language_model is None:
            raise ValueError("this BLIP2 has no language model: give one for stage 2")
        return self.lm_proj
