"""Facts about BLIP-2: equal to transformers' Q-Former, its masks leak nothing, frozen is frozen."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dlcourse.multimodal_fusion import (
    BLIP2,
    QFormer,
    attention_mask,
    itc_similarity,
    negative_weights,
    stage1_losses,
    with_soft_prompt,
)
from dlcourse.multimodal_fusion.blip2.convert import start_from_bert, to_transformers
from dlcourse.multimodal_fusion.blip2.stage1 import (
    draw_columns,
    itc_loss,
    itg_loss,
    itm_loss,
)

Q, D, HEADS, LAYERS, IMAGE, VOCAB = 5, 24, 3, 3, 20, 40
DEC = VOCAB - 1


def small(seed=0, queries=Q, **options):
    generator = torch.Generator().manual_seed(seed)
    sizes = {"vocab_size": VOCAB, "max_text": 16, "embed_dim": 12, "dropout": 0.0}
    model = QFormer(
        queries, D, HEADS, LAYERS, IMAGE, generator=generator, **{**sizes, **options}
    )
    with torch.no_grad():  # strong enough for a leak to show
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model


def batch(b=4, t=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(b, 7, IMAGE, generator=generator)
    ids = torch.randint(1, VOCAB - 1, (b, t), generator=generator)
    lengths = 2 + torch.arange(b) % (t - 1)
    return image, ids, torch.arange(t) < lengths[:, None]


def language_model(seed=0, width=32):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=width,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).eval()


def peer_of(model):
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    peer = Blip2QFormerModel(
        Blip2QFormerConfig(
            vocab_size=VOCAB,
            hidden_size=D,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=4 * D,
            encoder_hidden_size=IMAGE,
            use_qformer_text_input=True,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    ).eval()
    to_transformers(model, peer)
    return peer


# Against transformers


def test_queries_alone_equal_transformers_qformer():
    model, (image, _, _) = small(), batch()
    peer = peer_of(model)
    ours, text = model(image)
    theirs = peer(
        query_embeds=model.queries.expand(len(image), -1, -1),
        encoder_hidden_states=model.image_norm(image),
    ).last_hidden_state
    assert text is None and ours.std() > 0.5
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_queries_and_padded_text_together_equal_transformers_qformer():
    model, (image, ids, mask) = small(1), batch()
    embeddings = model.words(ids) + model.positions(torch.arange(ids.shape[1]))
    queries = model.queries.expand(len(image), -1, -1)
    theirs = peer_of(model)(
        query_embeds=torch.cat([queries, embeddings], 1),
        query_length=Q,
        attention_mask=torch.cat([torch.ones(len(ids), Q), mask.float()], 1).long(),
        encoder_hidden_states=model.image_norm(image),
    ).last_hidden_state
    ours = torch.cat(model(image, ids, mask, "itm"), 1)
    real = torch.cat([torch.ones(len(ids), Q, dtype=torch.bool), mask], 1)
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=0)


def test_the_text_alone_equals_transformers_qformer_without_queries():
    model, (_, ids, mask) = small(2), batch()
    theirs = peer_of(model)(
        query_embeds=model.words(ids) + model.positions(torch.arange(ids.shape[1])),
        query_length=0,
        attention_mask=mask.long(),
    ).last_hidden_state
    none, ours = model(ids=ids, text_mask=mask)
    assert none is None
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-5, rtol=0)


def test_gradients_equal_those_of_transformers_qformer():
    model, (image, _, _) = small(3), batch()
    peer = peer_of(model)
    pull = torch.randn(4, Q, D, generator=torch.Generator().manual_seed(5))
    (model(image)[0] * pull).sum().backward()
    theirs = peer(
        query_embeds=model.queries.detach().expand(len(image), -1, -1),
        encoder_hidden_states=model.image_norm(image).detach(),
    ).last_hidden_state
    (theirs * pull).sum().backward()
    for ours, theirs in (
        (
            model.blocks[2].cross.key.weight,
            peer.encoder.layer[2].crossattention.attention.key.weight,
        ),
        (
            model.blocks[0].queries_mlp.dense_in.bias,
            peer.encoder.layer[0].intermediate_query.dense.bias,
        ),
    ):
        assert ours.grad.abs().max() > 1e-4
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_a_qformer_that_starts_from_bert_reads_text_as_bert_does():
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=VOCAB - 1,
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * D,
        max_position_embeddings=16,
    )
    torch.manual_seed(0)
    bert = BertModel(config, add_pooling_layer=False).eval()
    model, (_, ids, mask) = small(), batch()
    start_from_bert(model, bert.state_dict())
    ids = ids.clamp_max(VOCAB - 2)
    theirs = bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    ours = model(ids=ids, text_mask=mask)[1]
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-5, rtol=0)
    for block in model.blocks:
        assert torch.equal(block.queries_mlp.dense_in.weight, block.text_mlp.dense_in.weight)
    with pytest.raises(ValueError, match="other sizes"):
        start_from_bert(small(mlp_dim=2 * D), bert.state_dict())


# Masks


def test_masks_as_in_figure_2_of_the_paper():
    text = torch.tensor([[True, True, False]])
    rows = {
        "itc": ["11000", "11000", "00110", "00110", "00110"],
        "itm": ["11110"] * 5,
        "itg": ["11000", "11000", "11100", "11110", "11110"],
    }
    for objective, expected in rows.items():
        found = attention_mask(objective, 2, text)[0, 0].int().tolist()
        assert ["".join(map(str, row)) for row in found] == expected


@pytest.mark.parametrize("objective", ["itc", "itg"])
def test_the_queries_never_see_the_text_in_itc_and_itg(objective):
    model, (image, ids, mask) = small(), batch()
    other = (ids + 7) % (VOCAB - 1)
    assert torch.equal(
        model(image, ids, mask, objective)[0], model(image, other, mask, objective)[0]
    )
    leak = model(image, ids, mask, "itm")[0] - model(image, other, mask, "itm")[0]
    assert leak.abs().max() > 0.1


def test_one_pass_with_the_itc_mask_equals_two_passes_apart():
    model, (image, ids, mask) = small(), batch()
    queries, text = model(image, ids, mask, "itc")
    torch.testing.assert_close(queries, model(image)[0])
    torch.testing.assert_close(text[mask], model(ids=ids, text_mask=mask)[1][mask])


def test_in_itg_a_token_sees_the_picture_and_the_past_but_not_the_future():
    model, (image, ids, mask) = small(), batch()
    mask = torch.ones_like(mask)
    changed = ids.clone()
    changed[:, 3] = (ids[:, 3] + 5) % (VOCAB - 1)
    before, after = (model(image, x, mask, "itg")[1] for x in (ids, changed))
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amax((0, 2)).min() > 0.01
    other = model(image + 1 * image.roll(1, 0), ids, mask, "itg")[1]
    assert (before - other).abs().amax((0, 2)).min() > 0.01


def test_padding_changes_nothing():
    model, (image, ids, mask) = small(), batch()
    filled = ids.masked_fill(~mask, 11)
    for objective in ("itc", "itm", "itg"):
        a, b = model(image, ids, mask, objective), model(image, filled, mask, objective)
        assert torch.equal(a[0], b[0]) and torch.equal(a[1][mask], b[1][mask])


# Stage 1


def test_the_similarity_is_that_of_the_best_query():
    queries = F.normalize(torch.randn(3, Q, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    text = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    expected = [[max(float(q @ t) for q in picture) for t in text] for picture in queries]
    torch.testing.assert_close(itc_similarity(queries, text), torch.tensor(expected))


def test_itc_without_smoothing_is_clips_loss_and_the_same_text_twice_shares_the_target():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    eye = torch.eye(4, dtype=torch.bool)
    where = torch.arange(4)
    clip = (F.cross_entropy(logits, where) + F.cross_entropy(logits.T, where)) / 2
    torch.testing.assert_close(itc_loss(logits, eye, smoothing=0.0), clip)
    smooth = (
        F.cross_entropy(logits, where, label_smoothing=0.1)
        + F.cross_entropy(logits.T, where, label_smoothing=0.1)
    ) / 2
    torch.testing.assert_close(itc_loss(logits, eye), smooth)
    same = eye.clone()
    same[0, 1] = same[1, 0] = True
    alike = torch.zeros(4, 4)
    alike[:2, :2] = alike[2, 2] = alike[3, 3] = 50.0
    assert itc_loss(alike, same, smoothing=0.0) < 0.4 < itc_loss(alike, eye, smoothing=0.0) + 0.1


def test_negatives_are_never_right_and_hard_ones_are_drawn_more_often():
    logits = torch.tensor([[9.0, 3.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    same = torch.eye(3, dtype=torch.bool)
    weights = negative_weights(logits, same)
    assert weights.diagonal().eq(0).all() and torch.allclose(weights.sum(1), torch.ones(3))
    assert weights[0, 1] > 5 * weights[0, 2] > 0
    drawn = weights.multinomial(500, replacement=True, generator=torch.Generator().manual_seed(0))
    assert not (drawn == torch.arange(3)[:, None]).any()
    assert negative_weights(logits, torch.ones(3, 3, dtype=torch.bool)).eq(0).all()


def test_itg_is_the_likelihood_of_the_next_token_without_padding():
    logits = torch.randn(2, 4, VOCAB, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[DEC, 3, 4, 5], [DEC, 6, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    terms = [-F.log_softmax(logits[0, i], 0)[ids[0, i + 1]] for i in range(3)]
    terms.append(-F.log_softmax(logits[1, 0], 0)[6])
    torch.testing.assert_close(itg_loss(logits, ids, mask, 0.0), torch.stack(terms).mean())


def test_itm_averages_the_queries_logits():
    logits = torch.zeros(2, 3, 2)
    logits[0, 0] = torch.tensor([0.0, 6.0])
    expected = (F.softplus(torch.tensor(-2.0)) + torch.tensor(2.0).log()) / 2
    torch.testing.assert_close(itm_loss(logits, torch.tensor([1, 0])), expected)


def test_stage_1_starts_at_the_losses_of_guessing_and_each_loss_falls():
    torch.manual_seed(0)
    model = QFormer(
        Q, D, HEADS, 2, IMAGE, vocab_size=VOCAB, max_text=16, embed_dim=12, dropout=0.0,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    image, ids, mask = batch(8)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    curve = []
    for _ in range(120):
        losses = stage1_losses(model, image, ids, mask, dec_id=DEC, generator=generator)
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        curve.append([loss.item() for loss in losses])
    first, last = curve[0], torch.tensor(curve[-5:]).mean(0).tolist()
    assert abs(first[1] - math.log(2)) < 0.1 and abs(first[2] - math.log(VOCAB)) < 0.2
    assert last[0] < 0.75 * first[0] and last[2] < 0.75 * first[2]
    assert last[1] < -(math.log(1 / 3) + 2 * math.log(2 / 3)) / 3  # the best guess without looking


def test_a_batch_of_one_text_has_no_negative():
    image, ids, mask = batch()
    same = torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match="two different texts"):
        stage1_losses(small(), image, ids, mask, dec_id=DEC, groups=same)


# Stage 2


def test_labels_leave_out_the_prompt_and_the_padding():
    prompt, embeddings = torch.ones(2, 3, 4), torch.zeros(2, 2, 4)
    ids, mask = torch.tensor([[5, 6], [7, 0]]), torch.tensor([[1, 1], [1, 0]])
    together, seen, labels = with_soft_prompt(prompt, embeddings, mask, ids)
    assert together[:, :3].eq(1).all() and together[:, 3:].eq(0).all()
    assert seen.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert labels.tolist() == [[-100] * 3 + [5, 6], [-100] * 3 + [7, -100]]


def test_what_is_frozen_has_no_gradient_and_does_not_move():
    vision = nn.Sequential(nn.Linear(IMAGE, IMAGE), nn.Dropout(0.5))
    model = BLIP2(vision, small(), language_model()).train()
    image, ids, mask = batch()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(image, ids, mask).backward()
    optimizer.step()
    for name, p in model.named_parameters():
        frozen = name.startswith(("vision_model", "language_model"))
        assert p.requires_grad is not frozen
        if frozen:
            assert p.grad is None and torch.equal(p, before[name])
    for name in ("qformer.queries", "lm_proj.weight", "qformer.blocks.0.cross.key.weight"):
        assert not torch.equal(model.get_parameter(name), before[name])
    assert not vision.training and not model.language_model.training and model.qformer.training


def test_the_loss_is_that_of_the_language_model_behind_the_prompt():
    lm = language_model()
    model = BLIP2(nn.Identity(), small(), lm).eval()
    image, ids, mask = batch()
    prompt = model.soft_prompt(image)
    total, count = 0.0, 0
    for i in range(len(ids)):
        row = ids[i, mask[i]]
        x = torch.cat([prompt[i], lm.get_input_embeddings()(row)])[None]
        logits = lm(inputs_embeds=x).logits[0, Q - 1 : -1]
        total, count = total + F.cross_entropy(logits, row, reduction="sum"), count + len(row)
    torch.testing.assert_close(model(image, ids, mask), total / count)
    other = model(image.roll(1, 0), ids, mask)
    assert (other - total / count).abs() > 1e-4  # the picture matters


def test_generating_step_by_step_gives_the_same_tokens():
    lm = language_model()
    model = BLIP2(nn.Identity(), small(), lm).eval()
    image, _, _ = batch()
    start = torch.tensor([[7, 8]]).expand(len(image), -1)
    found = model.generate(image, start, max_new_tokens=6, eos_token_id=None)
    x = torch.cat([model.soft_prompt(image), lm.get_input_embeddings()(start)], 1)
    tokens = []
    for _ in range(6):
        tokens.append(lm(inputs_embeds=x).logits[:, -1].argmax(-1))
        x = torch.cat([x, lm.get_input_embeddings()(tokens[-1])[:, None]], 1)
    assert found.tolist() == torch.stack(tokens, 1).tolist()


# Bad input


def test_errors_say_what_to_do():
    model, (image, ids, mask) = small(), batch()
    for call, message in (
        (lambda: model(), "image features, text ids"),
        (lambda: model(image[..., :-1]), "image features must be"),
        (lambda: model(image[:, 0]), "image features must be"),
        (lambda: model(image[:2], ids), "give each its text"),
        (lambda: model(ids=ids.repeat(1, 5)), "cut longer texts"),
        (lambda: model(ids=ids, text_mask=mask & False), "no token at all"),
        (lambda: model(ids=ids, text_mask=mask[:1]), "is not of ids"),
        (lambda: model(ids=ids, text_mask=mask[:, :3]), "is not of ids"),
        (lambda: model(ids=ids, text_mask=mask, objective="mlm"), "objective must be one of"),
        (lambda: QFormer(0), "num_queries"),
        (lambda: QFormer(dim=10, num_heads=3), "divisible"),
        (lambda: BLIP2(nn.Identity(), model)(image, ids, mask), "no language model"),
        (lambda: BLIP2(nn.Identity(), model).image_features(image * torch.nan), "finite"),
        (lambda: BLIP2(nn.Identity(), model).image_features(image[0]), "one row a place"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="must be bool"):
        model(ids=ids, text_mask=mask.float())


def test_captions_that_are_all_empty_are_refused_and_not_averaged_to_nan():
    model, (image, ids, mask) = small(), batch()
    only_first = torch.arange(ids.shape[1]).expand_as(ids) < 1
    with pytest.raises(ValueError, match="nothing to write"):
        stage1_losses(model, image, ids, only_first, dec_id=1)
    with pytest.raises(ValueError, match="NaN or infinity"):
        stage1_losses(model, image * torch.nan, ids, mask, dec_id=1)
    some = only_first | (torch.arange(len(ids)) == 0)[:, None]
    assert all(loss.isfinite() for loss in stage1_losses(model, image, ids, some, dec_id=1))

    whole, ids = BLIP2(nn.Identity(), model, language_model()), ids.clamp(max=49)
    ignored = torch.full_like(ids, -100)
    for arguments in ((ids, mask & False), (ids[:, :0], mask[:, :0]), (ids, mask, ignored)):
        with pytest.raises(ValueError, match="leave empty captions out"):
            whole(image, *arguments)
    for arguments in ((ids[:2], mask[:2]), (ids, mask[:, :2]), (ids, mask, ids[:, :2])):
        with pytest.raises(ValueError, match="give each picture its own"):
            whole(image, *arguments)
    assert whole(image, ids, some).isfinite()


# The listing's defects


def test_listing_is_no_module_so_nothing_is_trained():
    class Listing:
        def __init__(self):
            super().__init__()
            self.query_tokens = nn.Parameter(torch.zeros(1, 32, 768))

    assert not hasattr(Listing(), "parameters") and not callable(Listing())


def test_listing_projects_what_is_not_there_and_never_uses_the_other_projection():
    queries = torch.zeros(1, 32, 768)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        nn.Linear(1408, 768)(queries)
    model = QFormer(4, 24, 3, 1, 1408, vocab_size=VOCAB)
    assert model.blocks[0].cross.key.in_features == 1408  # the width belongs to the picture


def test_listing_calls_the_qformer_with_the_picture_as_a_length():
    model, (image, _, _) = small(), batch()
    with pytest.raises((RuntimeError, TypeError)):
        peer_of(model)(model.queries.expand(len(image), -1, -1), image)


def test_listing_queries_that_start_as_zeros_stay_equal_but_for_dropout():
    spreads = {}
    for start in ("zeros", "normal", "zeros, dropout"):
        torch.manual_seed(0)
        model = small(dropout=0.1 if "dropout" in start else 0.0).train()
        if "zeros" in start:
            nn.init.zeros_(model.queries)
        image, ids, mask = batch(8)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        for step in range(10):
            losses = stage1_losses(
                model, image, ids, mask, dec_id=DEC, generator=torch.Generator().manual_seed(step)
            )
            optimizer.zero_grad()
            sum(losses).backward()
            optimizer.step()
        out = model.eval()(image)[0]
        spreads[start] = (out - out.mean(1, keepdim=True)).abs().max().item()
    assert spreads["zeros"] < 1e-4 < 0.1 < spreads["normal"]
    assert spreads["zeros, dropout"] > 0.01


def test_listing_language_model_never_looks_at_encoder_hidden_states():
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    lm = OPTForCausalLM(
        OPTConfig(
            vocab_size=50, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
            word_embed_proj_dim=32, max_position_embeddings=32,
        )
    ).eval()  # fmt: skip
    _, ids, _ = batch()
    plain = lm(input_ids=ids).logits
    try:
        given = lm(input_ids=ids, encoder_hidden_states=torch.randn(4, 5, 32)).logits
    except TypeError:
        return  # a version that refuses the argument: the listing does not run
    assert torch.equal(plain, given)


def test_listing_freezes_nothing():
    lm = language_model()
    assert all(p.requires_grad for p in lm.parameters())
    BLIP2(nn.Identity(), small(), lm)
    assert not any(p.requires_grad for p in lm.parameters())


def test_columns_are_drawn_with_the_probabilities_of_their_weights():
    weights = torch.tensor([[1.0, 3.0, 0.0, 4.0]]).expand(40000, 4)
    drawn = draw_columns(weights, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(share, torch.tensor([1, 3, 0, 4]) / 8, atol=0.01, rtol=0)
    assert share[2] == 0
