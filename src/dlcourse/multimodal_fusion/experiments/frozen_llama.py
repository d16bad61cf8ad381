"""The layers of a frozen Llama with few and large kernels, to be trained *through*.

In ``transformers``, a layer of SmolLM2 consists of dozens of small kernels, and the mask is made by
looking at values, which a CUDA graph can't. Here the projections that read the same input are one
matrix each; the results are the same (``tests/multimodal_fusion/test_blip2_experiments.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenLlama:
    """The hidden states of a ``LlamaForCausalLM``, for whole sequences, without dropout or cache.

    Args:
        lm: in evaluation mode; its weights are copied as they are now, and get no gradient.

    Raises:
        ValueError: a model with biases, another activation, or positions other than plain RoPE.
    """

    def __init__(self, lm: nn.Module) -> None:
        c = lm.config
        plain = c.hidden_act == "silu" and not (c.attention_bias or c.mlp_bias)
        if not plain or lm.model.rotary_emb.rope_type != "default":
            raise ValueError("need a Llama with SiLU, no biases and plain rotary positions")
        self.heads, self.kv_heads = c.num_attention_heads, c.num_key_value_heads
        self.eps, self.rotary_emb = c.rms_norm_eps, lm.model.rotary_emb
        self.norm, self.lm_head = lm.model.norm.weight.detach(), lm.lm_head.weight.detach()
        self.layers = [
            tuple(
                w.detach()
                for w in (
                    layer.input_layernorm.weight,
                    torch.cat([p.weight for p in (a.q_proj, a.k_proj, a.v_proj)]),
                    a.o_proj.weight,
                    layer.post_attention_layernorm.weight,
                    torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]),
                    layer.mlp.down_proj.weight,
                )
            )
            for layer in lm.model.layers
            for a in (layer.self_attn,)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """Embeddings ``(B, L, width)`` to the last hidden states, of the same shape and type."""
        positions = torch.arange(x.shape[1], device=x.device)[None]
        with torch.autocast(x.device.type, enabled=False):  # the model's precision is its own
            cos, sin = (part[:, :, None] for part in self.rotary_emb(x, positions))
            half = cos.shape[-1] // 2
            sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
            for layer in self.layers:
                x = self._layer(x, cos, sin, *layer)
            return F.rms_norm(x, x.shape[-1:], self.norm, self.eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """``(…, width)`` → ``(…, vocabulary)``."""
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden, self.lm_head)

    def _layer(
        self, x: Tensor, cos: Tensor, sin: Tensor,
        norm1: Tensor, qkv: Tensor, out: Tensor, norm2: Tensor, gate_up: Tensor, down: Tensor,
    ) -> Tensor:  # fmt: skip
        parts = F.linear(F.rms_norm(x, x.shape[-1:], norm1, self.eps), qkv)
        parts = parts.unflatten(-1, (self.heads + 2 * self.kv_heads, -1))  # (B, L, heads, D)
        turning, v = parts.split([self.heads + self.kv_heads, self.kv_heads], dim=2)
        turned = turning.roll(turning.shape[-1] // 2, -1) * sin + turning * cos
        q, k = turned.split([self.heads, self.kv_heads], dim=2)
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
            is_causal=True, enable_gqa=True,
        )  # fmt: skip
        x = x + F.linear(mixed.transpose(1, 2).flatten(2), out)
        gate, up = F.linear(F.rms_norm(x, x.shape[-1:], norm2, self.eps), gate_up).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, down)
