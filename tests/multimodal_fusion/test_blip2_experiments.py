"""Facts about the runs that name emoji, at sizes of a toy: no archive is needed."""

import math

import pytest
import torch
from torch.nn import functional as F

from dlcourse.multimodal_fusion.experiments.emoji_contest import contest, sweep_queries
from dlcourse.multimodal_fusion.experiments.emoji_names import (
    BlindPrompter,
    Emoji,
    LinearPrompter,
    _padded,
    name_losses,
    name_scores,
    recalls,
    ridge_recall,
    stage2,
)

N, DIM = 24, 12
SIZES = {"dim": 16, "num_heads": 2, "num_layers": 2, "embed_dim": 8, "mlp_dim": 32}


@pytest.fixture(scope="module")
def data():
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    lm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=30, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, bos_token_id=1, eos_token_id=2,
            initializer_range=0.4,
        )
    ).requires_grad_(False).eval()  # fmt: skip
    bert = BertModel(
        BertConfig(
            vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=40,
        ),
        add_pooling_layer=False,
    )  # fmt: skip
    names = [f"n{i}" for i in range(N)]
    ids, mask = _padded([[3 + i % 5, 10 + i // 5, 2][: 2 + i % 2] for i in range(N)])
    vectors = F.normalize(torch.randn(N, 8), dim=1)
    table = dict(zip(names, vectors, strict=True))
    return Emoji(
        maps=torch.randn(2, N, 4, DIM).half(),
        features=torch.randn(2, N, 10),
        names=names,
        name_vectors=vectors,
        parts={
            "train": torch.arange(12), "validation": torch.arange(12, 18),
            "test": torch.arange(18, 24),
        },
        lm=lm,
        start=torch.tensor([4, 5]),
        lm_ids=ids,
        lm_mask=mask,
        decode=lambda row: "n" + str(int(row[0])),
        end=2,
        bert_ids=torch.randint(0, 29, (N, 5)),
        bert_mask=torch.ones(N, 5, dtype=torch.bool),
        bert=bert.state_dict(),
        encode=lambda texts: torch.stack([table.get(text, torch.zeros(8)) for text in texts]),
        same_name=torch.arange(N),
    )  # fmt: skip


def test_the_loss_of_a_name_is_that_of_each_of_its_tokens_alone(data):
    prompts = torch.randn(3, 2, 16)
    which = torch.tensor([0, 1, 7])
    found = name_losses(data, prompts, which)
    embed = data.lm.get_input_embeddings()
    for loss, prompt, i in zip(found, prompts, which, strict=True):
        ids = data.lm_ids[i][data.lm_mask[i]]
        x = torch.cat([prompt, embed(data.start), embed(ids)])[None]
        logits = data.lm(inputs_embeds=x).logits[0]
        torch.testing.assert_close(loss, F.cross_entropy(logits[-len(ids) - 1 : -1], ids))


def test_recall_counts_ties_against_and_guessing_gives_chance():
    assert recalls(torch.eye(10)) == [100, 100, 100]
    assert recalls(torch.zeros(20, 20)) == [0, 0, 0]
    scores = torch.randn(2000, 2000, generator=torch.Generator().manual_seed(0))
    assert abs(recalls(scores)[2] - 0.5) < 0.5


def test_exact_names_are_counted_and_found(data):
    which = data.parts["test"]
    right = [data.names[i] for i in which.tolist()]
    assert name_scores(data, right, which) == {"exact": 100, "recall": [100] * 3, "different": 6}
    wrong = name_scores(data, right[1:] + right[:1], which)
    assert wrong["exact"] == 0 and wrong["recall"][0] == 0


def test_models_trained_at_once_are_as_if_trained_alone(data):
    def make(seed):
        torch.manual_seed(seed)
        return LinearPrompter(DIM, 16)

    options = {"steps": 5, "batch": 4, "checks": 1}
    both = stage2(data, [make(0), make(1)], [0.01, 0.03], seeds=[0, 1], **options)
    alone = stage2(data, [make(1)], [0.03], seeds=[1], **options)
    torch.testing.assert_close(both[1].prompter.linear.weight, alone[0].prompter.linear.weight)
    assert all(p.grad is None for p in data.lm.parameters())


def test_a_prompter_that_sees_the_picture_learns_more_than_one_that_does_not(data):
    torch.manual_seed(0)
    options = {"steps": 150, "batch": 12, "checks": 1}
    blind = stage2(data, [BlindPrompter(2, 16)], [0.03], seeds=[0], **options)[0]
    linear = stage2(data, [LinearPrompter(DIM, 16)], [0.03], seeds=[0], **options)[0]
    assert linear.curve[-1][1] < blind.curve[-1][1] - 0.1


def test_a_linear_relation_is_found_by_the_ridge_map(data):
    import dataclasses

    x = torch.randn(2, N, 10)
    weights = torch.randn(10, 8)
    vectors = F.normalize(x[0] @ weights, dim=1)
    made = dataclasses.replace(data, features=x[:1].repeat(2, 1, 1), name_vectors=vectors)
    assert ridge_recall(made, [1e-3, 1.0])[0][0][0] >= 50
    mixed = dataclasses.replace(made, name_vectors=vectors[torch.randperm(N)])
    assert ridge_recall(mixed, [1e-3, 1.0])[0][0][0] <= 50


def test_the_whole_contest_runs_and_its_values_can_be_recorded(data):
    import json

    found = contest(
        data, num_queries=2, seeds=(0, 1), steps1=2, steps=3, tuning_steps=2, batch=6,
        rates=(1e-3, 1e-2, 3e-2), sizes=SIZES, shown=3,
    )  # fmt: skip
    json.dumps(found)
    assert set(found["rows"]) == {
        "no picture", "linear", "Q-Former, stage 2 alone", "Q-Former, both stages",
    }  # fmt: skip
    for row in found["rows"].values():
        assert len(row["validation"]) == 2 and all(map(math.isfinite, row["validation"]))
        assert len(row["styles"]) == 2 and len(row["written"][0]) == 3
    swept = sweep_queries(data, (1, 3), 1e-3, seeds=(0, 1), steps=2, batch=4, sizes=SIZES)
    json.dumps(swept)
    assert [len(row["scores"]) for row in swept["rows"].values()] == [2, 2]
