"""CLIP, its losses and what it is used for: equal to open_clip's and transformers' from the same
weights, on one process and on two; and each bad input a clear error."""

import math
import sys

import cloudpickle
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlcourse.large_scale_training import distributed, launch
from dlcourse.multimodal_fusion import (
    CLIP,
    ConvTower,
    TextTower,
    VisionTower,
    WordTokenizer,
    clip_loss,
    clip_loss_chunked,
    clip_loss_gathered,
    clip_loss_reference,
    gather_features,
    grouped_clip_loss,
    modality_gap,
    quick_gelu,
    retrieval_recall,
    siglip_loss,
    zero_shot_classifier,
)

cloudpickle.register_pickle_by_value(sys.modules[__name__])

SEEDS = pytest.mark.parametrize("seed", range(6))
SCALES = (0.5, 1.0, 14.3, 100.0)


def pairs(seed, b=7, d=5, dtype=torch.float64):
    """Features of length 1, and captions near their pictures."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(b, d, generator=g, dtype=torch.float64)
    y = x + torch.randn(b, d, generator=g, dtype=torch.float64)
    return F.normalize(x).to(dtype), F.normalize(y).to(dtype)


def with_gradient(function, *tensors):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    value = function(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves)


def scale_of(value):
    return torch.tensor(value, dtype=torch.float64)


def assert_same(found, expected, rtol=1e-9, atol=1e-11):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


# --- The loss --------------------------------------------------------------------------------


@SEEDS
@pytest.mark.parametrize("scale", SCALES)
def test_the_loss_and_its_gradients_equal_the_double_loop(seed, scale):
    inputs = *pairs(seed), scale_of(scale)
    expected = with_gradient(clip_loss_reference, *inputs)
    assert_same(with_gradient(clip_loss, *inputs), expected)


@SEEDS
@pytest.mark.parametrize("scale", SCALES)
def test_the_loss_and_its_gradients_equal_open_clips(seed, scale):
    from open_clip.loss import ClipLoss

    inputs = *pairs(seed, 9, 16), scale_of(scale)
    assert_same(with_gradient(clip_loss, *inputs), with_gradient(ClipLoss(), *inputs))


@SEEDS
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_change_neither_the_loss_nor_its_gradients(seed, scale, chunk):
    inputs = *pairs(seed), scale_of(scale)

    def chunked(x, y, s):
        return 3 * clip_loss_chunked(x, y, s, chunk)  # a factor that the backward pass must carry

    expected = with_gradient(lambda *a: 3 * clip_loss(*a), *inputs)
    assert_same(with_gradient(chunked, *inputs), expected)


def test_chunks_have_no_second_derivative_and_say_so():
    x, y = (z.requires_grad_() for z in pairs(0))
    loss = clip_loss_chunked(x, y, 5.0, 2)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        torch.autograd.grad(loss, x, create_graph=True)


def test_chunks_keep_no_square_for_the_backward_pass():
    x, y = (z.requires_grad_() for z in pairs(0, 512, 8, torch.float32))
    largest = {}
    for name, function in (("plain", clip_loss), ("chunked", clip_loss_chunked)):
        kept = []

        def pack(t, kept=kept):
            kept.append(t.untyped_storage().nbytes())
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            function(x, y, torch.tensor(10.0, requires_grad=True))
        largest[name] = max(kept)
    assert largest["plain"] >= 512 * 512 * 4
    assert largest["chunked"] <= 512 * 8 * 4


def test_numbers_known_by_hand():
    same = torch.ones(8, 1, dtype=torch.float64)
    assert clip_loss(same, same, 20.0).item() == pytest.approx(math.log(8))  # a guess among 8
    eye = torch.eye(5, dtype=torch.float64)
    assert clip_loss(eye, eye, 2.0).item() == pytest.approx(math.log(1 + 4 * math.exp(-2)))
    assert clip_loss(eye, eye.roll(1, 0), 2.0).item() == pytest.approx(
        math.log(1 + 4 * math.exp(-2)) + 2
    )
    assert clip_loss(eye[:1], eye[:1], 2.0).item() == 0  # nothing to confuse it with


@SEEDS
def test_both_directions_count_and_pairing_matters(seed):
    x, y = pairs(seed)
    assert clip_loss(x, y, 5.0) == pytest.approx(clip_loss(y, x, 5.0).item())
    one_way = F.cross_entropy(5 * x @ y.T, torch.arange(7))
    assert abs(clip_loss(x, y, 5.0) - one_way) > 1e-4
    assert clip_loss(x, y, 5.0) < clip_loss(x, y.roll(1, 0), 5.0) - 0.1


@SEEDS
def test_groups_are_the_mean_over_parts(seed):
    x, y = pairs(seed, 12)
    parts = [clip_loss(a, b, 9.0) for a, b in zip(x.split(4), y.split(4))]
    torch.testing.assert_close(grouped_clip_loss(x, y, 9.0, 4), torch.stack(parts).mean())
    torch.testing.assert_close(grouped_clip_loss(x, y, 9.0, 12), clip_loss(x, y, 9.0))
    with pytest.raises(ValueError, match="groups of 5"):
        grouped_clip_loss(x, y, 9.0, 5)


@pytest.mark.parametrize("function", [clip_loss, clip_loss_chunked, clip_loss_gathered])
def test_half_precision_features_are_summed_in_float32(function):
    x, y = pairs(0, 64, 8, torch.bfloat16)
    loss = function(x, y, torch.tensor(100.0))
    assert loss.dtype == torch.float32
    expected = clip_loss(x.double(), y.double(), 100.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert function(x.float(), y.float(), 100.0).item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        clip_loss,
        clip_loss_reference,
        clip_loss_chunked,
        clip_loss_gathered,
        lambda x, y, s: grouped_clip_loss(x, y, s, 2),
        lambda x, y, s: siglip_loss(x, y, s, 0.0),
        lambda x, y, s: retrieval_recall(x, y, [1]),
        lambda x, y, s: modality_gap(x, y),
    ],
)
def test_features_that_do_not_fit_are_refused(function):
    x, y = pairs(0, 4)
    with pytest.raises(ValueError, match="4 images and 3 texts"):
        function(x, y[:3], 1.0)
    with pytest.raises(ValueError, match="one width"):
        function(x, y[:, :3], 1.0)
    with pytest.raises(ValueError, match="one row a pair"):
        function(x[0], y, 1.0)
    with pytest.raises(ValueError, match="empty"):
        function(x[:0], y[:0], 1.0)
    with pytest.raises(TypeError, match="floating point"):
        function(x.long(), y, 1.0)


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        clip_loss_chunked(*pairs(0), 1.0, 0)


# --- SigLIP ----------------------------------------------------------------------------------


@SEEDS
@pytest.mark.parametrize("bias", [-10.0, 0.0, 3.0])
def test_siglip_and_its_gradients_are_the_papers_sum(seed, bias):
    def by_loop(x, y, t, b):  # Zhai et al. (2023), equation 1
        total = 0.0
        for i in range(len(x)):
            for j in range(len(x)):
                z = 1.0 if i == j else -1.0
                total = total + torch.log(1 / (1 + torch.exp(z * (-t * (x[i] @ y[j]) - b))))
        return -total / len(x)

    inputs = *pairs(seed), scale_of(10.0), scale_of(bias)
    assert_same(with_gradient(siglip_loss, *inputs), with_gradient(by_loop, *inputs))


@SEEDS
def test_siglip_equals_open_clips(seed):
    from open_clip.loss import SigLipLoss

    inputs = *pairs(seed, 9, 16), scale_of(10.0), scale_of(-10.0)
    assert_same(with_gradient(siglip_loss, *inputs), with_gradient(SigLipLoss(), *inputs))


def test_siglip_equals_transformers():
    from transformers import SiglipConfig, SiglipModel

    text = dict(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                num_attention_heads=2, max_position_embeddings=8, projection_size=16)  # fmt: skip
    vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                  num_attention_heads=2, image_size=16, patch_size=8)  # fmt: skip
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).double().eval()
    nn.init.constant_(model.logit_scale, 1.5)
    nn.init.constant_(model.logit_bias, -2.0)
    out = model(
        input_ids=torch.randint(50, (5, 8)),
        pixel_values=torch.randn(5, 3, 16, 16, dtype=torch.float64),
        return_loss=True,
    )
    ours = siglip_loss(out.image_embeds, out.text_embeds, math.exp(1.5), -2.0)
    torch.testing.assert_close(ours, out.loss, rtol=1e-10, atol=0)


def test_each_pair_of_siglip_is_a_question_of_its_own():
    """What a pair adds does not depend on the others, unlike in a softmax."""
    x, y = pairs(0, 6)

    def own(n):  # the gradient of the cosine of picture 0 and caption 1, times n
        cosines = (x[:n] @ y[:n].T).requires_grad_()
        eye = torch.eye(n, dtype=torch.float64)
        loss = siglip_loss(cosines, eye, 10.0, -10.0)
        return n * torch.autograd.grad(loss, cosines)[0][0, 1]

    torch.testing.assert_close(own(2), own(6))


# --- Two ranks -------------------------------------------------------------------------------


class Linears(nn.Module):
    """A CLIP of two matrices, in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        towers = nn.Identity(), nn.Identity()
        towers[0].embed_dim, towers[1].embed_dim = 6, 4
        self.clip = CLIP(*towers, 5).double()

    def forward(self, images, texts):
        return self.clip(images, texts)


def joined_batch(b=8):
    g = torch.Generator().manual_seed(5)
    return (torch.randn(b, n, generator=g, dtype=torch.float64) for n in (6, 4))


def step_on(world, form):
    """Loss of this rank, mean over ranks, and gradients averaged as DDP does it."""
    model = nn.parallel.DistributedDataParallel(Linears())
    images, texts = (z.tensor_split(world.world_size)[world.rank] for z in joined_batch())
    loss = form(*model(images, texts))
    loss.backward()
    mean = loss.detach().clone()
    torch.distributed.all_reduce(mean)
    return loss.item(), mean.item() / 2, [p.grad.clone() for p in model.parameters()]


def refusal_on(world):
    try:
        gather_features(torch.randn(2 + world.rank, 3))
    except ValueError as error:
        return str(error)


def refusal_of_an_empty_rank_on(world):
    x, y = (z.tensor_split(world.world_size)[world.rank] for z in joined_batch())
    x, y = (F.normalize(z, dim=1)[: None if world.rank else 0, :4] for z in (x, y))
    try:
        clip_loss_gathered(x, y, 3.0)
    except ValueError as error:
        return str(error)


def on_a_rank():
    """What each form of the loss gives. Models are gone before the group ends: a reducer that
    outlives its group can wait for a thread that waits for Python."""
    from open_clip.loss import ClipLoss

    with distributed("gloo") as world:
        forms = {
            "ours": clip_loss_gathered,
            "open_clip": ClipLoss(True, True, True, world.rank, world.world_size),
            "whole": lambda x, y, s: clip_loss(gather_features(x), gather_features(y), s),
            "local": clip_loss,
        }
        found = {name: step_on(world, form) for name, form in forms.items()}
        return found | {
            "unequal": refusal_on(world),
            "empty": refusal_of_an_empty_rank_on(world),
        }


@pytest.fixture(scope="module")
def two_ranks():
    ranks = launch(on_a_rank, 2, time_limit=150)
    return {name: [rank[name] for rank in ranks] for name in ranks[0]}


def single():
    model = Linears()
    loss = clip_loss(*model(*joined_batch()))
    loss.backward()
    return loss.item(), [p.grad for p in model.parameters()]


@pytest.mark.parametrize("which", ["ours", "open_clip", "whole"])
def test_two_ranks_have_the_loss_and_the_gradients_of_one_process(two_ranks, which):
    expected, gradients = single()
    for _, mean, found in two_ranks[which]:
        assert mean == pytest.approx(expected, rel=1e-12)
        assert_same(found, gradients, rtol=1e-10, atol=1e-13)


def test_each_rank_has_open_clips_part(two_ranks):
    for ours, theirs in zip(two_ranks["ours"], two_ranks["open_clip"]):
        assert ours[0] == pytest.approx(theirs[0], rel=1e-12)


def test_ranks_that_do_not_gather_have_an_easier_question_and_other_gradients(two_ranks):
    """What the document's loss does on several processes: it sees local negatives alone."""
    expected, gradients = single()
    for _, mean, found in two_ranks["local"]:
        assert mean < expected - 0.3
        assert (found[1] - gradients[1]).norm() > 0.1 * gradients[1].norm()


def test_ranks_with_batches_of_different_sizes_say_so(two_ranks):
    assert all("[2, 3] pairs" in message for message in two_ranks["unequal"])


def test_no_rank_waits_for_one_whose_batch_is_empty(two_ranks):
    assert "the batch is empty" in two_ranks["empty"][0]
    assert "rank 0 has features that do not fit" in two_ranks["empty"][1]


def test_one_process_needs_no_group():
    x, y = pairs(0)
    assert gather_features(x) is x
    assert clip_loss_gathered(x, y, 3.0) == clip_loss(x, y, 3.0)


# --- The towers: transformers' from the same weights -----------------------------------------


def transformers_clip(act="quick_gelu"):
    from transformers import CLIPConfig, CLIPModel

    text = dict(vocab_size=60, hidden_size=24, intermediate_size=96, num_hidden_layers=3,
                num_attention_heads=3, max_position_embeddings=12, hidden_act=act,
                eos_token_id=59, bos_token_id=58, pad_token_id=0)  # fmt: skip
    vision = dict(hidden_size=32, intermediate_size=128, num_hidden_layers=2,
                  num_attention_heads=4, image_size=16, patch_size=4, hidden_act=act)  # fmt: skip
    torch.manual_seed(1)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=20))
    for p in model.parameters():  # also of norms and biases, so that each must be in its place
        nn.init.normal_(p, std=0.3) if p.dim() else nn.init.constant_(p, 2.0)
    return model.double().eval()


def ours_from(theirs, act=quick_gelu):
    vision = VisionTower(16, 4, 32, 2, 4, activation=act)
    text = TextTower(60, 12, 24, 3, 3, end=59, activation=act)
    model = CLIP(vision, text, 20).double().eval()

    def copy(part, other):
        part.load_state_dict(other.state_dict())

    with torch.no_grad():
        v, t = theirs.vision_model, theirs.text_model
        vision.class_token.copy_(v.embeddings.class_embedding)
        vision.positions.copy_(v.embeddings.position_embedding.weight)
        text.positions.copy_(t.embeddings.position_embedding.weight)
        copy(vision.patch, v.embeddings.patch_embedding)
        copy(vision.norm_before, v.pre_layrnorm)
        copy(vision.norm_after, v.post_layernorm)
        copy(text.embedding, t.embeddings.token_embedding)
        copy(text.norm_after, t.final_layer_norm)
        for tower, layers in ((vision, v.encoder.layers), (text, t.encoder.layers)):
            for block, layer in zip(tower.blocks, layers, strict=True):
                a = layer.self_attn
                for name in ("weight", "bias"):
                    qkv = [getattr(p, name) for p in (a.q_proj, a.k_proj, a.v_proj)]
                    getattr(block.qkv, name).copy_(torch.cat(qkv))
                copy(block.out, a.out_proj)
                copy(block.norm1, layer.layer_norm1)
                copy(block.norm2, layer.layer_norm2)
                copy(block.wide, layer.mlp.fc1)
                copy(block.narrow, layer.mlp.fc2)
        copy(model.image_projection, theirs.visual_projection)
        copy(model.text_projection, theirs.text_projection)
        model.logit_scale.copy_(theirs.logit_scale)
    return model


def tokens_for(model_end=59):
    tokens = torch.randint(1, 58, (5, 12), generator=torch.Generator().manual_seed(0))
    for row, length in enumerate((2, 5, 12, 7, 3)):
        tokens[row, length - 1] = model_end
        tokens[row, length:] = 0
    return tokens


@pytest.mark.parametrize("act, name", [(quick_gelu, "quick_gelu"), (F.gelu, "gelu")])
def test_clip_equals_transformers_from_the_same_weights(act, name):
    theirs = transformers_clip(name)
    ours = ours_from(theirs, act)
    images = torch.randn(5, 3, 16, 16, dtype=torch.float64)
    tokens = tokens_for()
    out = theirs(input_ids=tokens, pixel_values=images, return_loss=True)
    x, y, scale = ours(images, tokens)
    torch.testing.assert_close(x, out.image_embeds, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(y, out.text_embeds, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(scale * x @ y.T, out.logits_per_image, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(clip_loss(x, y, scale), out.loss, rtol=1e-9, atol=1e-10)


def test_what_follows_the_end_of_a_text_is_never_seen():
    tower = TextTower(60, 12, 24, 2, 3, end=59).double()
    tokens = tokens_for()
    expected = tower(tokens)
    other = torch.where((tokens == 59).cumsum(1) > 0, torch.randint(60, tokens.shape), tokens)
    other[tokens == 59] = 59
    torch.testing.assert_close(tower(other), expected, rtol=1e-12, atol=1e-12)
    short = tokens[[0, 1, 4]]  # cut after the longest of them
    torch.testing.assert_close(tower(short[:, :5]), tower(short), rtol=1e-12, atol=1e-12)


def test_an_early_token_reaches_the_end():
    tower = TextTower(60, 12, 24, 2, 3, end=59).double()
    tokens = tokens_for()
    changed = tokens.clone()
    changed[1, 0] = 1 + changed[1, 0] % 50
    difference = (tower(changed) - tower(tokens)).norm(dim=1)
    assert difference[1] > 1e-3 and difference[[0, 2, 3, 4]].max() == 0


def test_a_tower_sees_each_picture_alone():
    torch.manual_seed(0)
    for tower in (VisionTower(16, 4, 16, 2, 2), ConvTower(16, (8, 16), 2)):
        images = torch.randn(4, 3, 16, 16)
        alone = torch.cat([tower(image[None]) for image in images])
        torch.testing.assert_close(tower(images), alone, rtol=1e-4, atol=1e-5)


def test_attention_pooling_knows_where_things_are():
    torch.manual_seed(0)
    tower = ConvTower(32, (8, 16, 32), 2).double()
    images = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    left, right = images.clone(), images.clone()
    left[..., 12:20, 4:12], right[..., 12:20, 20:28] = 1.0, 1.0
    assert (tower(left) - tower(right)).norm() > 0.01 * tower(left).norm()


# --- The model -------------------------------------------------------------------------------


def small(**options):
    return CLIP(ConvTower(16, (8, 16), 2), TextTower(20, 8, 16, 1, 2), 12, **options)


def batch(n=4):
    tokens = torch.tensor([[1, 5, 6, 2, 0], [1, 7, 2, 0, 0], [1, 9, 9, 9, 2], [1, 3, 4, 2, 0]])
    return torch.rand(n, 3, 16, 16), tokens[:n]


def test_features_have_length_1_and_everything_is_trained():
    model = small()
    x, y, scale = model(*batch())
    for z in (x, y):
        torch.testing.assert_close(z.norm(dim=1), torch.ones(4))
    clip_loss(x, y, scale).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert {"logit_scale", "image_projection.weight"} <= set(dict(model.named_parameters()))
    assert model.image_projection.bias is None  # as in the reference


def test_the_scale_starts_at_one_over_the_temperature_and_is_kept_at_most_100():
    model = small()
    assert model.scale().item() == pytest.approx(1 / 0.07, rel=1e-6)
    nn.init.constant_(model.logit_scale, 9.0)
    scale = model(*batch()).logit_scale
    assert scale.item() == pytest.approx(100)
    scale.backward()
    assert model.logit_scale.grad == pytest.approx(100, rel=1e-5)  # it can come down again
    model.eval()
    before = model.logit_scale.item()
    model.scale()
    assert model.logit_scale.item() == before


def test_locked_towers_give_frozen_features_a_head():
    towers = nn.Identity(), nn.Identity()
    for tower in towers:
        tower.embed_dim = 6
    model = CLIP(*towers, 3)
    assert sum(p.numel() for p in model.parameters()) == 2 * 6 * 3 + 1


def test_training_finds_the_pairs_and_shuffled_captions_teach_nothing():
    g = torch.Generator().manual_seed(0)
    images, texts = torch.randn(96, 12, generator=g), None
    texts = images @ torch.randn(12, 10, generator=g)
    found = {}
    for name, order in (("right", torch.arange(64)), ("shuffled", torch.randperm(64, generator=g))):
        torch.manual_seed(0)
        towers = nn.Identity(), nn.Identity()
        towers[0].embed_dim, towers[1].embed_dim = 12, 10
        model = CLIP(*towers, 8)
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(150):
            optimizer.zero_grad()
            clip_loss(*model(images[:64], texts[:64][order])).backward()
            optimizer.step()
        x, y, _ = model(images[64:], texts[64:])
        found[name] = retrieval_recall(x, y, [1])[1]
    assert min(found["right"]) > 0.9
    assert max(found["shuffled"]) < 0.25


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.rand(2, 3, 16, 15), "must be"),
        (torch.rand(3, 16, 16), "must be"),
        (255 * torch.rand(2, 3, 16, 16), "Divide bytes by 255"),
        (torch.full((2, 3, 16, 16), math.nan), "not finite"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(images, message):
    for tower in (VisionTower(16, 4, 16, 1, 2), ConvTower(16, (8, 16), 2)):
        with pytest.raises(ValueError, match=message):
            tower(images)
        with pytest.raises(TypeError, match="/ 255"):
            tower(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))


@pytest.mark.parametrize(
    "tokens, error, message",
    [
        (torch.zeros(2, 9, dtype=torch.long), ValueError, "context of 8"),
        (torch.zeros(8, dtype=torch.long), ValueError, r"\(B, L\)"),
        (torch.full((2, 3), 20), ValueError, "another tokenizer"),
        (torch.full((2, 3), 4), ValueError, "no end token"),
        (torch.zeros(2, 3), TypeError, "whole numbers"),
    ],
)
def test_texts_that_do_not_fit_are_refused(tokens, error, message):
    with pytest.raises(error, match=message):
        TextTower(20, 8, 16, 1, 2)(tokens)


def test_a_model_that_can_not_work_is_refused():
    with pytest.raises(ValueError, match="embed_dim"):
        CLIP(nn.Identity(), TextTower(20, 8, 16, 1, 2))
    with pytest.raises(ValueError, match="temperature"):
        small(temperature=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        CLIP(ConvTower(16, (8,), 2), TextTower(20, 8, 16, 1, 2), 0)
    images, tokens = batch()
    with pytest.raises(ValueError, match="4 images and 3 texts"):
        small()(images, tokens[:3])

    class Maps(nn.Identity):
        embed_dim = 3

    with pytest.raises(ValueError, match="one vector an input"):
        CLIP(Maps(), TextTower(20, 8, 16, 1, 2)).encode_image(images)
    with pytest.raises(ValueError, match="patches of 5"):
        VisionTower(16, 5, 16, 1, 2)
    with pytest.raises(ValueError, match="heads"):
        TextTower(20, 8, 16, 1, 3)
    with pytest.raises(ValueError, match="multiples of 8"):
        ConvTower(16, (6, 16))


# --- The tokenizer ---------------------------------------------------------------------------


def test_words_become_tokens_and_come_back():
    tokenizer = WordTokenizer(["a", "red", "cat"], 5)
    tokens = tokenizer(["A red cat.", "cat"])
    assert tokens.tolist() == [[1, 3, 4, 5, 2], [1, 5, 2, 0, 0]]
    assert tokenizer.decode(tokens) == ["a red cat", "cat"]
    assert len(tokenizer) == 6


@pytest.mark.parametrize(
    "texts, error, message",
    [
        ([""], ValueError, "empty caption"),
        (["a", "  . "], ValueError, "empty caption"),
        (["a a a a"], ValueError, "context of 5"),
        (["a dog"], ValueError, "does not know: dog"),
        ([], ValueError, "no texts"),
        ("a cat", TypeError, "list"),
    ],
)
def test_captions_that_can_not_be_read_are_refused(texts, error, message):
    with pytest.raises(error, match=message):
        WordTokenizer(["a", "red", "cat"], 5)(texts)


@pytest.mark.parametrize("words, context", [(["a", "a"], 5), (["a b"], 5), (["A"], 5), (["a"], 2)])
def test_a_vocabulary_that_can_not_work_is_refused(words, context):
    with pytest.raises(ValueError):
        WordTokenizer(words, context)


# --- Retrieval, classes from words, the gap --------------------------------------------------


def test_recall_counts_ranks_in_both_directions():
    # cosines: picture 0 .79 and .99, picture 1 .61 and .12: each prefers the other's caption;
    # caption 0 prefers picture 0, which is right, and so does caption 1
    x, y = torch.eye(2), torch.tensor([[0.9, 0.7], [0.8, 0.1]])
    assert retrieval_recall(x, y, [1, 2]) == {1: (0.0, 0.5), 2: (1.0, 1.0)}
    assert retrieval_recall(y, x, [1, 2]) == {1: (0.5, 0.0), 2: (1.0, 1.0)}


@SEEDS
def test_recall_agrees_with_sorting(seed):
    x, y = pairs(seed, 40, 6)
    order = (x @ y.T).argsort(1, descending=True)
    places = (order == torch.arange(40)[:, None]).int().argmax(1)
    for k, (found, _) in retrieval_recall(3 * x, y, [1, 5, 10]).items():
        assert found == pytest.approx((places < k).double().mean().item())


def test_a_model_that_says_the_same_of_everything_finds_nothing():
    same = torch.ones(10, 3)
    assert retrieval_recall(same, same, [1, 9, 10]) == {1: (0, 0), 9: (0, 0), 10: (1, 1)}


@pytest.mark.parametrize("ks", [[], [0], [5]])
def test_recall_refuses_numbers_of_candidates_that_there_are_not(ks):
    with pytest.raises(ValueError, match=r"1 … 4"):
        retrieval_recall(*pairs(0, 4), ks)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "function",
    [
        clip_loss,
        clip_loss_chunked,
        clip_loss_gathered,
        lambda x, y, s: siglip_loss(x, y, s, 0.0),
        lambda x, y, s: retrieval_recall(x, y, [1]),
        lambda x, y, s: modality_gap(x, y),
    ],
)
def test_features_that_are_not_finite_are_named(function, value):
    x, y = pairs(0, 4)
    y[2, 0] = value
    with pytest.raises(ValueError, match="text_features are not finite in 1 of 4 rows.*row 2"):
        function(x, y, 1.0)


def test_a_zero_shot_classifier_is_the_mean_of_normalised_prompts():
    g = torch.Generator().manual_seed(0)
    table = {}

    def encode(texts):
        for text in texts:
            table.setdefault(text, 10 * torch.rand(1, generator=g) * torch.randn(6, generator=g))
        return torch.stack([table[text] for text in texts])

    weights = zero_shot_classifier(encode, ["cat", "dog"], ["a {}.", "the {}, a {}", "{}"])
    assert set(table) == {"a cat.", "the cat, a cat", "cat", "a dog.", "the dog, a dog", "dog"}
    for row, name in zip(weights, ("cat", "dog")):
        parts = [table[t] for t in (f"a {name}.", f"the {name}, a {name}", name)]
        mean = sum(p / p.norm() for p in parts) / 3
        torch.testing.assert_close(row, mean / mean.norm())


@pytest.mark.parametrize(
    "names, templates, message",
    [
        ([], ["{}"], "list of names"),
        ("cat", ["{}"], "list of names"),
        (["cat", " "], ["{}"], "none of them empty"),
        (["cat", "cat"], ["{}"], "twice"),
        (["cat"], ["a photo"], "where the name goes"),
        (["cat"], [], "where the name goes"),
    ],
)
def test_classes_that_can_not_be_told_apart_are_refused(names, templates, message):
    with pytest.raises(ValueError, match=message):
        zero_shot_classifier(lambda texts: torch.ones(len(texts), 2), names, templates)
    with pytest.raises(ValueError, match="not finite"):
        zero_shot_classifier(lambda texts: torch.full((1, 2), math.nan), ["cat"])


def test_the_gap_is_a_distance_of_means():
    x = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert modality_gap(x, 5 * x) == 0
    assert modality_gap(x[:1], -x[:1]) == pytest.approx(2)
    assert modality_gap(x[:1], x[1:]) == pytest.approx(math.sqrt(2))


# --- The document's listing ------------------------------------------------------------------


class ListingCLIP:
    """The document's class, in its essentials."""

    def __init__(self, vision_model, text_model, temperature=0.07):
        self.vision_model, self.text_model = vision_model, text_model
        self.temperature = temperature
        self.vision_proj = nn.Linear(vision_model.hidden_size, 512)
        self.text_proj = nn.Linear(text_model.hidden_size, 512)
        self.visual_dropout, self.text_dropout = nn.Dropout(0.0), nn.Dropout(0.0)

    def forward(self, images, texts):
        images = F.normalize(self.vision_proj(self.vision_model(images)), dim=-1)
        return images, F.normalize(self.text_proj(self.text_model(**texts)), dim=-1)

    def contrastive_loss(self, image_features, text_features):
        logits = torch.matmul(image_features, text_features.T) / self.temperature
        labels = torch.arange(len(logits))
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


class ListingTower(nn.Module):
    hidden_size = 8

    def forward(self, x):
        return x


def listing():
    torch.manual_seed(0)
    return ListingCLIP(ListingTower(), ListingTower())


def test_listing_clip_is_no_module():
    model = listing()
    assert not hasattr(model, "parameters") and not hasattr(model, "state_dict")
    with pytest.raises(TypeError, match="not callable"):
        model(torch.zeros(2, 8), {"x": torch.zeros(2, 8)})


def test_listing_clip_has_the_right_loss_for_one_process():
    x, y = pairs(0, 9, 16)
    torch.testing.assert_close(listing().contrastive_loss(x, y), clip_loss(x, y, 1 / 0.07))


def test_listing_clip_learns_no_temperature():
    assert isinstance(listing().temperature, float)
    assert small().logit_scale.requires_grad


def test_listing_clip_projects_whatever_a_tower_returns():
    images, texts = listing().forward(torch.randn(3, 5, 8), {"x": torch.randn(3, 8)})
    assert images.shape == (3, 5, 512)  # five vectors a picture
    with pytest.raises((RuntimeError, ValueError)):
        listing().contrastive_loss(images, texts)


def test_listing_clip_projects_with_a_bias():
    assert listing().vision_proj.bias is not None and small().image_projection.bias is None


def test_listing_clip_never_uses_its_dropout():
    model = listing()
    del model.visual_dropout, model.text_dropout
    assert model.forward(torch.randn(3, 8), {"x": torch.randn(3, 8)})[0].shape == (3, 512)
