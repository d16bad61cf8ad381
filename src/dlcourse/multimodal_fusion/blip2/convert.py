"""Weights from elsewhere: BERT's, with which a Q-Former starts, and transformers' BLIP-2."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dlcourse.multimodal_fusion.blip2.qformer import QFormer

_BERT = {  # a part of our block: of a layer of BERT
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.dense": "attention.output.dense",
    "attention.norm": "attention.output.LayerNorm",
    "text_mlp.dense_in": "intermediate.dense",
    "text_mlp.dense_out": "output.dense",
    "text_mlp.norm": "output.LayerNorm",
}
_BLIP2 = {
    **{ours: theirs.replace("self.", "attention.") for ours, theirs in _BERT.items()},
    **{
        ours.replace("attention", "cross"): theirs.replace(
            "attention.", "crossattention.", 1
        ).replace("self.", "attention.")
        for ours, theirs in _BERT.items()
        if ours.startswith("attention")
    },
    "queries_mlp.dense_in": "intermediate_query.dense",
    "queries_mlp.dense_out": "output_query.dense",
    "queries_mlp.norm": "output_query.LayerNorm",
}


def start_from_bert(qformer: QFormer, bert: Mapping[str, Tensor]) -> None:
    """Copy a BERT's weights into all but the cross-attention and the heads (BLIP-2, section 3.1).

    The queries' own MLP starts as a copy of the text's, as in LAVIS. Our Q-Former has no segments:
    BERT's embedding of the first segment is added to its positions.

    Args:
        bert: the state of transformers' ``BertModel``, of the same sizes.

    Raises:
        ValueError: sizes that differ.
    """
    state = qformer.state_dict()
    words = bert["embeddings.word_embeddings.weight"]
    new = {
        "words.weight": torch.cat([words, state["words.weight"][len(words) :]]),
        "positions.weight": (
            bert["embeddings.position_embeddings.weight"]
            + bert["embeddings.token_type_embeddings.weight"][0]
        )[: len(state["positions.weight"])],
        "norm.weight": bert["embeddings.LayerNorm.weight"],
        "norm.bias": bert["embeddings.LayerNorm.bias"],
    }
    for i in range(len(qformer.blocks)):
        for ours, theirs in _BERT.items():
            for kind in ("weight", "bias"):
                value = bert[f"encoder.layer.{i}.{theirs}.{kind}"]
                new[f"blocks.{i}.{ours}.{kind}"] = value
                if ours.startswith("text_mlp"):
                    new[f"blocks.{i}.{ours.replace('text', 'queries')}.{kind}"] = value
    different = [name for name, value in new.items() if value.shape != state[name].shape]
    if different:
        raise ValueError(f"this BERT has other sizes than the Q-Former: {', '.join(different[:3])}")
    qformer.load_state_dict({**state, **new})


def to_transformers(qformer: QFormer, peer: nn.Module) -> None:
    """Copy our weights into transformers' ``Blip2QFormerModel`` of the same sizes."""
    state, new = qformer.state_dict(), {}
    for name in peer.state_dict():
        if name.startswith("layernorm."):
            new[name] = state[name.replace("layernorm", "norm")]
            continue
        _, _, layer, rest = name.split(".", 3)
        part, kind = rest.rsplit(".", 1)
        ours = next(ours for ours, theirs in _BLIP2.items() if theirs == part)
        new[name] = state[f"blocks.{layer}.{ours}.{kind}"]
    peer.load_state_dict(new)
