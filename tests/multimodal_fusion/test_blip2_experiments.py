"""Facts about the runs that name emoji, at sizes of a toy: no archive is needed."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dlcourse.multimodal_fusion.experiments.captured import Captured, new_adamw, rate_part, set_rate
from dlcourse.multimodal_fusion.experiments.emoji_contest import (
    FEWEST,
    contest,
    first_position,
    sweep_queries,
)
from dlcourse.multimodal_fusion.experiments.emoji_names import (
    BlindPrompter,
    Emoji,
    LinearPrompter,
    QFormerPrompter,
    Stage1,
    Stage2,
    _padded,
    asked,
    likelihood_recall,
    likelihoods,
    name_losses,
    name_scores,
    new_qformer,
    recalls,
    ridge_recall,
    write_names,
)
from dlcourse.multimodal_fusion.experiments.frozen_llama import FrozenLlama

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
        first=torch.tensor([1]),
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
        x = torch.cat([embed(data.first), prompt, embed(data.start), embed(ids)])[None]
        logits = data.lm(inputs_embeds=x).logits[0]
        torch.testing.assert_close(loss, F.cross_entropy(logits[-len(ids) - 1 : -1], ids))


def test_the_prompt_comes_second_and_first_where_no_token_is_asked_for(data):
    prompts = torch.randn(3, 2, 16)
    embed = data.lm.get_input_embeddings()
    before, after = embed(torch.tensor([1])), embed(data.start)
    for row, prompt in zip(asked(data, prompts), prompts, strict=True):
        torch.testing.assert_close(row, torch.cat([before, prompt, after]))
    bare = asked(replace(data, first=data.first[:0]), prompts)
    torch.testing.assert_close(bare, asked(data, prompts)[:, 1:])


def test_the_contest_of_the_first_position_trains_each_kind_and_leaves_the_test_alone(data):
    kept = first_position(data, rates=(1e-3,), seeds=(0, 1), steps=4, batch=4, sizes=SIZES)
    assert [(row["first"], row["dropout"]) for row in kept["rows"]] == [
        (False, 0.1), (False, 0.0), (True, 0.1), (True, 0.0)
    ]  # fmt: skip
    for row in kept["rows"]:
        assert len(row["validation"]) == len(row["training, in use"]) == 2
        assert all(x > 0 for x in row["validation"] + row["training, with dropout"])
    with_none, without = kept["rows"][1], kept["rows"][3]
    assert with_none["validation"] != without["validation"]


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


def stage2(data, prompters, rates, *, seeds, steps, batch):
    return Stage2(data, prompters, batch=batch, seeds=seeds).train(steps, rates, checks=1)


def test_models_trained_at_once_are_as_if_trained_alone(data):
    def make(seed):
        torch.manual_seed(seed)
        return LinearPrompter(DIM, 16)

    options = {"steps": 5, "batch": 4}
    both = stage2(data, [make(0), make(1)], [0.01, 0.03], seeds=[0, 1], **options)
    alone = stage2(data, [make(1)], [0.03], seeds=[1], **options)
    torch.testing.assert_close(both[1].prompter.linear.weight, alone[0].prompter.linear.weight)
    assert all(p.grad is None for p in data.lm.parameters())


def test_timing_a_step_leaves_the_training_as_it_was(data):
    def train(timed):
        torch.manual_seed(0)
        training = Stage2(data, [LinearPrompter(DIM, 16)], batch=4, seeds=[0])
        if timed:
            assert training.captured.seconds(training.example(), repeats=3) > 0
        return training.train(5, [0.03])[0]

    timed, not_timed = train(True), train(False)
    assert timed.curve == not_timed.curve
    torch.testing.assert_close(timed.prompter.linear.weight, not_timed.prompter.linear.weight)


def test_a_prompter_that_sees_the_picture_learns_more_than_one_that_does_not(data):
    torch.manual_seed(0)
    options = {"steps": 150, "batch": 12}
    blind = stage2(data, [BlindPrompter(2, 16)], [0.03], seeds=[0], **options)[0]
    linear = stage2(data, [LinearPrompter(DIM, 16)], [0.03], seeds=[0], **options)[0]
    assert linear.curve[-1][1] < blind.curve[-1][1] - 0.1


def test_stage_1_learns_its_pairs(data):
    qformer = new_qformer(data, 2, 0, dropout=0.0, **SIZES)
    curve = Stage1(data, qformer, batch=12, seed=0).train(150, 1e-2)
    assert len(curve) == 10 and not qformer.training
    assert curve[-1][0] < curve[0][0] - 0.1  # ITC
    assert curve[-1][2] < curve[0][2] - 0.1  # ITG


def test_the_rate_warms_up_and_ends_at_nothing():
    parts = [rate_part(k, 200) for k in range(200)]
    assert parts[0] == pytest.approx(0.1) and max(parts) == parts[9] > 0.99
    assert parts[9:] == sorted(parts[9:], reverse=True) and parts[-1] < 1e-3


def test_on_a_cpu_a_captured_step_is_the_step():
    model = torch.nn.Linear(3, 1, bias=False)
    optimizer = new_adamw(model, weight_decay=0.0)

    def step(x):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    captured = Captured(step, [torch.ones(2, 3)], [optimizer])
    assert captured.how == "eager"
    before = model.weight.detach().clone()
    captured(torch.ones(2, 3))
    assert torch.equal(model.weight, before)  # the rate is 0 until it is set
    set_rate(optimizer, 0.01)
    captured(torch.ones(2, 3))
    assert (model.weight - before).abs().max().item() == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_the_merged_layers_are_those_of_transformers(kv_heads):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    lm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=30, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=kv_heads, initializer_range=0.3,
        )
    ).requires_grad_(False).eval()  # fmt: skip
    for layer in lm.model.layers:
        torch.nn.init.uniform_(layer.input_layernorm.weight, 0.5, 1.5)
        torch.nn.init.uniform_(layer.post_attention_layernorm.weight, 0.5, 1.5)
    ours = FrozenLlama(lm)
    x = torch.randn(2, 9, 32, requires_grad=True)
    found, expected = ours(x), lm.model(inputs_embeds=x, use_cache=False).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.logits(found), lm.lm_head(expected), rtol=1e-4, atol=1e-4)
    direction = torch.randn_like(x)
    gradients = [torch.autograd.grad((y * direction).sum(), x)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


class Ops(TorchDispatchMode):
    """Names of all operations that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func).removeprefix("aten."))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage", [1, 2])
def test_a_step_looks_at_no_value_so_that_it_can_be_captured(data, stage, monkeypatch):
    from dlcourse.multimodal_fusion.blip2 import masks
    from dlcourse.multimodal_fusion.blip2 import stage1 as losses

    class NoStep:  # on a CPU the optimizer itself looks at its count
        def __init__(self, optimizer):
            self.zero_grad, self.step = optimizer.zero_grad, lambda: None

    for module in (masks, losses):
        monkeypatch.setattr(module, "being_captured", lambda x: True)
    qformer = new_qformer(data, 2, 0, **SIZES)
    if stage == 1:
        training = Stage1(data, qformer, batch=6, seed=0)
        training.optimizer = NoStep(training.optimizer)
    else:
        training = Stage2(data, [QFormerPrompter(qformer, 16)], batch=6, seeds=[0])
        training.optimizers = [NoStep(training.optimizers[0])]
    inputs = training.example()
    with Ops() as ops:
        training._step(*inputs)
    waits = ("_local_scalar_dense", "nonzero", "multinomial", "masked_select", "is_nonzero")
    assert not [name for name in ops.names if name.startswith(waits)]
    assert {"mm.default", "embedding_dense_backward.default"} & ops.names  # it did look


def test_another_llama_is_refused():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, attention_bias=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="no biases"):
        FrozenLlama(LlamaForCausalLM(config))


def test_less_padding_changes_no_loss(data):
    prompts, which = torch.randn(4, 2, 16), torch.tensor([0, 2, 4, 6])  # of two tokens
    torch.testing.assert_close(
        name_losses(data, prompts, which, 2), name_losses(data, prompts, which)
    )


def test_likelihoods_are_the_losses_of_all_pairs(data):
    torch.manual_seed(0)
    prompter, which = LinearPrompter(DIM, 16).eval(), data.parts["test"]
    with torch.no_grad():
        prompts = prompter(data.maps[0, which].float())
        scores = -torch.stack([name_losses(data, prompts, w.expand(6)) for w in which], dim=1)
    found = likelihoods(data, prompter, 0, which, pictures=4)
    torch.testing.assert_close(found, scores)
    expected = recalls(scores - scores.mean(0))
    assert likelihood_recall(data, prompter, 0, which) == expected


def test_names_written_at_once_are_those_written_alone(data):
    torch.manual_seed(0)
    prompters, which = [LinearPrompter(DIM, 16).eval() for _ in range(2)], data.parts["test"]
    together = write_names(data, prompters, (0, 1), which)
    for prompter, lists in zip(prompters, together, strict=True):
        for style in (0, 1):
            assert write_names(data, [prompter], (style,), which) == [[lists[style]]]
    assert len({name for lists in together for names in lists for name in names}) > 1


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
        data, num_queries=2, seeds=(0, 1), steps1=2, steps=5, batch1=6, batch=6,
        rates=(1e-3, 1e-2, 3e-2), sizes=SIZES, shown=3,
    )  # fmt: skip
    json.dumps(found)
    assert found["settings"]["steps"] == 5 and found["settings"]["tuning_steps"] == 2
    assert set(found["how"]) == set(found["seconds a step"]) == {"stage 1", *found["rows"]}
    assert set(found["rows"]) == {
        "no picture", "linear", "Q-Former, stage 2 alone", "Q-Former, both stages",
    }  # fmt: skip
    for row in found["rows"].values():
        assert len(row["validation"]) == 2 and all(map(math.isfinite, row["validation"]))
        assert len(row["styles"]) == 2 and len(row["written"][0]) == 3
    swept = sweep_queries(data, (1, 3), 1e-3, seeds=(0, 1), steps=2, batch=4, sizes=SIZES)
    json.dumps(swept)
    assert [len(row["scores"]) for row in swept["rows"].values()] == [2, 2]


def test_a_slow_machine_takes_fewer_steps(data):
    found = sweep_queries(data, (1,), 1e-3, seeds=(0, 1), steps=30, batch=4, sizes=SIZES, limit=0)
    assert found["settings"]["steps"] == FEWEST < 30
    assert found["rows"]["1"]["validation"]
