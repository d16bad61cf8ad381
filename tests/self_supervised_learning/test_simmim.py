"""SimMIM: equal to transformers' form, what its masks promise, and what the listing gets wrong."""

import itertools
import math
import sys

import cloudpickle
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dlcourse.large_scale_training import distributed, launch
from dlcourse.self_supervised_learning import (
    SimMIM,
    VisionTransformer,
    block_mask,
    masked_l1,
    patchify,
    pixel_mask,
    unpatchify,
)
from dlcourse.self_supervised_learning.simmim.model import normalize_patches
from dlcourse.self_supervised_learning.simmim.nearest import average_distance, fill_from_nearest

# The ranks get this file's code by value, and need not import the libraries compared with.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def small(seed=0, *, size=16, patch=4, channels=3, positions="sincos", **simmim):
    """A SimMIM whose weights are large enough that every part of it matters to the output."""
    encoder = VisionTransformer(
        size, patch, channels, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2,
        positions=positions, generator=seeded(seed),
    )  # fmt: skip
    model = SimMIM(encoder, **simmim, generator=seeded(seed))
    generator = seeded(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model


def pictures(seed=0, batch=5, channels=3, size=(16, 16)):
    return torch.rand(batch, channels, *size, generator=seeded(seed))


# --- The mask --------------------------------------------------------------------------------

GRIDS = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)).filter(
    lambda g: g[0] * g[1] > 1
)


@given(GRIDS, st.floats(0.01, 0.99), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_each_image_hides_the_same_number_of_whole_blocks(grid, ratio, seed):
    rows, columns, scale = grid
    blocks = rows * columns
    count = math.ceil(ratio * blocks - 1e-9)
    if count == blocks:
        with pytest.raises(ValueError, match=f"hides all {blocks} blocks"):
            block_mask(3, (rows * scale, columns * scale), scale, ratio, seeded(seed))
        return
    mask = block_mask(3, (rows * scale, columns * scale), scale, ratio, seeded(seed))
    assert mask.shape == (3, blocks * scale**2)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    tiles = mask.view(3, rows, scale, columns, scale).transpose(2, 3).flatten(3)
    whole = tiles.mean(-1)  # share of each block that is hidden: all or nothing
    assert set(whole.unique().tolist()) <= {0.0, 1.0}
    assert whole.sum((1, 2)).tolist() == [count] * 3


@pytest.mark.parametrize(
    ("ratio", "blocks", "count"), [(0.6, 36, 22), (0.07, 100, 7), (0.6, 25, 15), (0.01, 4, 1)]
)
def test_the_number_of_hidden_blocks_is_rounded_up_but_not_for_an_error_of_rounding(
    ratio, blocks, count
):
    # 36 blocks of 32 pixels in 192, as in the paper; 0.07 · 100 is 7.000000000000001 in floats.
    mask = block_mask(2, (1, blocks), 1, ratio, seeded(0))
    assert mask.sum(1).tolist() == [count, count]


def test_every_choice_of_blocks_is_equally_likely():
    # 2 × 3 blocks, 4 hidden: 15 choices. Chi-square with 14 degrees of freedom: 99.9 % below 36.
    n = 30_000
    mask = block_mask(n, (2, 3), 1, 0.6, seeded(0))
    number = (mask * 2 ** torch.arange(6)).sum(1).long()
    counts = number.bincount(minlength=64).double()
    possible = [sum(2**i for i in c) for c in itertools.combinations(range(6), 4)]
    assert counts[possible].sum() == n
    expected = n / 15
    assert ((counts[possible] - expected) ** 2 / expected).sum() < 36


def test_images_of_a_batch_get_masks_of_their_own():
    mask = block_mask(64, (6, 6), 1, 0.6, seeded(0))
    assert len(mask.unique(dim=0)) == 64


def test_the_mask_comes_from_the_generator_alone():
    draws = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)
        draws.append(block_mask(4, (4, 4), 2, 0.6, seeded(7)))
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], block_mask(4, (4, 4), 2, 0.6, seeded(8)))
    generator = seeded(7)
    assert torch.equal(draws[0], block_mask(4, (4, 4), 2, 0.6, generator))
    assert not torch.equal(draws[0], block_mask(4, (4, 4), 2, 0.6, generator))  # it moves on


def test_without_a_generator_the_mask_follows_torchs_seed():
    torch.manual_seed(3)
    first = block_mask(4, (4, 4), 1)
    torch.manual_seed(3)
    assert torch.equal(first, block_mask(4, (4, 4), 1))


def test_a_mask_of_patches_becomes_a_mask_of_their_pixels():
    mask = torch.tensor([[1.0, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0]])
    pixels = pixel_mask(mask, 2, (4, 6))
    assert pixels.shape == (2, 1, 4, 6)
    assert pixels[0, 0].tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 1, 1],
    ]
    assert pixels[1, 0, :2, 4:].eq(1).all()
    assert pixels[1].sum() == 4


# --- Guessing without learning ---------------------------------------------------------------


def test_average_distance_of_small_masks_by_hand():
    one = torch.zeros(5, 5)
    one[2, 2] = 1
    assert average_distance(one) == 1
    # A 3 × 3 hole: its rim is 1 away, its centre 2.
    hole = torch.zeros(7, 7)
    hole[2:5, 2:5] = 1
    assert average_distance(hole) == pytest.approx((8 * 1 + 2) / 9)
    # Only a corner is visible.
    corner = torch.ones(2, 2)
    corner[0, 0] = 0
    assert average_distance(corner) == pytest.approx((1 + 1 + math.sqrt(2)) / 3)


def test_average_distance_is_that_of_scipys_distance_transform():
    for seed, scale in itertools.product(range(5), (1, 2, 4)):
        mask = block_mask(1, (8, 8), scale, 0.6, seeded(seed))
        hidden = pixel_mask(mask, 3, (24, 24))[0, 0]
        expected = distance_transform_edt(hidden.numpy())[hidden.numpy() == 1].mean()
        assert average_distance(hidden) == pytest.approx(expected, rel=1e-12)


def test_filling_copies_the_nearest_visible_pixel_and_leaves_visible_ones():
    image = torch.arange(10.0).view(2, 1, 5)
    hidden = torch.tensor([[0, 1, 1, 1, 0]])
    filled = fill_from_nearest(image, hidden)
    assert filled[0, 0, [0, 1, 3, 4]].tolist() == [0, 0, 4, 4]
    assert filled[1, 0, [0, 1, 3, 4]].tolist() == [5, 5, 9, 9]
    assert filled[0, 0, 2].item() in (0, 4)  # both are two pixels away
    assert image.flatten().tolist() == list(range(10))


def test_filling_never_looks_at_what_is_hidden():
    image = pictures(batch=1)[0]
    hidden = pixel_mask(block_mask(1, (4, 4), 2, 0.6, seeded(0)), 4, (16, 16))[0, 0]
    other = torch.where(hidden.bool(), torch.rand(3, 16, 16, generator=seeded(9)), image)
    assert torch.equal(fill_from_nearest(image, hidden), fill_from_nearest(other, hidden))


# --- The loss --------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_hidden_pixels_and_channels():
    prediction, images = pictures(0), pictures(1)
    mask = pixel_mask(block_mask(5, (4, 4), 1, 0.6, seeded(2)), 4, (16, 16))
    total, count = 0.0, 0
    for b, c, i, j in itertools.product(range(5), range(3), range(16), range(16)):
        if mask[b, 0, i, j]:
            total += abs(prediction[b, c, i, j].item() - images[b, c, i, j].item())
            count += 1
    assert masked_l1(prediction, images, mask).item() == pytest.approx(total / count, rel=1e-6)


def test_the_loss_ignores_visible_pixels_and_sends_them_no_gradient():
    images = pictures(1)
    mask = pixel_mask(block_mask(5, (4, 4), 1, 0.6, seeded(2)), 4, (16, 16))
    prediction = pictures(0).requires_grad_()
    loss = masked_l1(prediction, images, mask)
    (gradient,) = torch.autograd.grad(loss, prediction)
    visible = mask.expand_as(images) == 0
    assert gradient[visible].eq(0).all()
    count = int(mask.sum()) * 3
    torch.testing.assert_close(gradient[~visible].abs(), torch.full((count,), 1 / count))
    changed = torch.where(visible, torch.tensor(100.0), prediction)
    assert torch.equal(loss, masked_l1(changed, images, mask))


def test_l1_is_least_at_the_median_and_l2_at_the_mean():
    values = torch.tensor([0.0, 0.0, 0.0, 0.2, 1.0])  # what one hidden pixel was, in five images
    guesses = torch.linspace(0, 1, 101)
    one = torch.ones(5, 1, 1, 1)
    images = values.view(5, 1, 1, 1)
    l1 = torch.stack([masked_l1(g.expand(5, 1, 1, 1), images, one) for g in guesses])
    l2 = ((guesses[:, None] - values) ** 2).mean(1)
    assert guesses[l1.argmin()] == values.median() == 0
    assert guesses[l2.argmin()].item() == pytest.approx(values.mean().item())


def test_normalised_patches_have_mean_0_and_variance_1_whatever_light_and_contrast():
    images = pictures()
    normal = patchify(normalize_patches(images, 4), 4)
    torch.testing.assert_close(normal.mean(-1), torch.zeros(5, 16), rtol=0, atol=1e-6)
    torch.testing.assert_close(normal.var(-1), torch.ones(5, 16), rtol=0, atol=1e-4)
    contrast = 0.5 + torch.rand(5, 16, 1, generator=seeded(1))
    brighter = unpatchify(patchify(images, 4) * contrast + 3, 4, (16, 16))
    torch.testing.assert_close(
        normalize_patches(brighter, 4), normalize_patches(images, 4), rtol=0, atol=1e-3
    )
    assert normalize_patches(torch.full((1, 3, 8, 8), 0.3), 4).abs().max() < 1e-3


def test_the_target_is_normalised_where_asked_and_nothing_else_changes():
    images = pictures()
    raw, normal = small(), small(norm_target=True)
    _, prediction, mask = raw(images, generator=seeded(0))
    loss, same, _ = normal(images, mask)
    assert torch.equal(prediction, same)
    hidden = pixel_mask(mask, 4, (16, 16))
    assert torch.equal(loss, masked_l1(prediction, normalize_patches(images, 4), hidden))


# --- Parity with transformers ----------------------------------------------------------------


def as_transformers(model):
    """The same weights in transformers' ViTForMaskedImageModeling."""
    from transformers import ViTConfig, ViTForMaskedImageModeling

    encoder = model.encoder
    p, c, d = encoder.patch_size, encoder.in_channels, encoder.embed_dim
    other = ViTForMaskedImageModeling(
        ViTConfig(
            image_size=encoder.image_size[0], patch_size=p, encoder_stride=p, num_channels=c,
            hidden_size=d, num_hidden_layers=len(encoder.blocks),
            num_attention_heads=encoder.blocks[0].attention.num_heads,
            intermediate_size=encoder.blocks[0].mlp[0].out_features,
            hidden_act="gelu", layer_norm_eps=1e-6, qkv_bias=True,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip
    ours = encoder.state_dict()
    # Ours orders a patch (row, column, channel); a convolution (channel, row, column), and
    # PixelShuffle reads its input's channels so too.
    theirs = {
        "vit.embeddings.cls_token": ours["class_token"],
        "vit.embeddings.mask_token": ours["mask_token"],
        "vit.embeddings.position_embeddings": torch.cat(
            [encoder.class_position, encoder.position_table], 1
        ),
        "vit.embeddings.patch_embeddings.projection.weight": ours["patch_embedding.weight"]
        .view(d, p, p, c)
        .permute(0, 3, 1, 2),
        "vit.embeddings.patch_embeddings.projection.bias": ours["patch_embedding.bias"],
        "vit.layernorm.weight": ours["norm.weight"],
        "vit.layernorm.bias": ours["norm.bias"],
        "decoder.0.weight": model.head.weight.view(p, p, c, d)
        .permute(2, 0, 1, 3)
        .reshape(-1, d, 1, 1),
        "decoder.0.bias": model.head.bias.view(p, p, c).permute(2, 0, 1).flatten(),
    }
    for i in range(len(encoder.blocks)):
        for suffix in ("weight", "bias"):
            q, k, v = ours[f"blocks.{i}.attention.qkv.{suffix}"].chunk(3)
            theirs |= {
                f"vit.layers.{i}.attention.{name}.{suffix}": value
                for name, value in {"q_proj": q, "k_proj": k, "v_proj": v}.items()
            }
            theirs |= {
                f"vit.layers.{i}.{name}.{suffix}": ours[f"blocks.{i}.{own}.{suffix}"]
                for name, own in {
                    "attention.o_proj": "attention.proj",
                    "layernorm_before": "norm1",
                    "layernorm_after": "norm2",
                    "mlp.fc1": "mlp.0",
                    "mlp.fc2": "mlp.2",
                }.items()
            }
    other.load_state_dict(theirs)
    return other.double().eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("positions", ["sincos", "learned"])
def test_loss_prediction_and_gradients_are_those_of_transformers(positions, channels):
    model = small(channels=channels, positions=positions).double()
    other = as_transformers(model)
    for seed in range(5):
        images = pictures(seed, channels=channels).double()
        loss, prediction, mask = model(images, generator=seeded(seed))
        out = other(images, bool_masked_pos=mask.bool())
        torch.testing.assert_close(prediction, out.reconstruction, rtol=0, atol=1e-12)
        # Theirs adds 1e-5 to the number of hidden pixels, so that an empty mask has a loss of 0.
        assert loss.item() == pytest.approx(out.loss.item(), rel=1e-6)
        ours = torch.autograd.grad(loss, [model.encoder.mask_token, model.head.bias])
        token = other.vit.embeddings.mask_token
        theirs = torch.autograd.grad(out.loss, [token, other.decoder[0].bias])
        torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-7)
        bias = ours[1].view(4, 4, channels).permute(2, 0, 1).flatten()
        torch.testing.assert_close(bias, theirs[1], rtol=0, atol=1e-7)


def test_the_loss_is_that_of_transformers_swin_on_its_own_prediction():
    from transformers import SwinConfig, SwinForMaskedImageModeling

    torch.manual_seed(0)
    # Patches of 2 pixels, two stages: a token of the last stage stands for 4 × 4 pixels.
    swin = SwinForMaskedImageModeling(
        SwinConfig(
            image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2],
            window_size=2, encoder_stride=4,
        )
    ).eval()  # fmt: skip
    images = pictures()
    mask = block_mask(5, (8, 8), 2, 0.6, seeded(0))
    out = swin(images, bool_masked_pos=mask.bool())
    loss = masked_l1(out.reconstruction, images, pixel_mask(mask, 2, (16, 16)))
    assert loss.item() == pytest.approx(out.loss.item(), rel=1e-6)


# --- What the model may see ------------------------------------------------------------------


def test_hidden_pixels_reach_the_target_and_nothing_else():
    model, images = small(), pictures()
    mask = block_mask(5, (4, 4), 2, 0.6, seeded(0))
    hidden = pixel_mask(mask, 4, (16, 16)).bool()
    other = torch.where(hidden, pictures(9), images)
    loss, prediction, _ = model(images, mask)
    changed_loss, changed_prediction, _ = model(other, mask)
    assert torch.equal(prediction, changed_prediction)
    assert abs(loss - changed_loss) > 1e-3

    # Nor is there a path for a gradient from a hidden pixel to the prediction.
    watched = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(watched, mask)[1].square().sum(), watched)
    assert gradient[hidden.expand_as(images)].eq(0).all()
    assert gradient[~hidden.expand_as(images)].ne(0).any()


def test_visible_pixels_change_the_prediction_of_hidden_ones():
    model, images = small(), pictures()
    mask = block_mask(5, (4, 4), 2, 0.6, seeded(0))
    hidden = pixel_mask(mask, 4, (16, 16)).bool().expand_as(images)
    other = torch.where(hidden, images, pictures(9))
    assert (model(images, mask)[1] - model(other, mask)[1])[hidden].abs().max() > 1e-3


def test_hidden_patches_are_told_apart_by_their_positions_alone():
    model, images = small(), pictures(batch=1)
    mask = torch.ones(1, 16)
    mask[0, 5] = 0
    with torch.no_grad():
        patches = patchify(model(images, mask)[1], 4)[0]
        assert torch.pdist(patches).min() > 1e-3
        model.encoder.position_table.zero_()
        patches = patchify(model(images, mask)[1], 4)[0][mask[0] == 1]
    torch.testing.assert_close(patches, patches[:1].expand(15, -1), rtol=0, atol=1e-5)


def test_each_token_predicts_its_own_patch():
    """The head alone: with a token that is its patch, the identity gives back the image."""
    encoder = VisionTransformer(8, 2, 1, embed_dim=4, depth=1, num_heads=1)
    model = SimMIM(encoder)
    images = pictures(channels=1, size=(8, 8))
    encoder.forward_features = lambda x, mask: F.pad(patchify(x, 2), (0, 0, 1, 0))
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(4))
    loss, prediction, _ = model(images, generator=seeded(0))
    assert torch.equal(prediction, images)
    assert loss == 0


def test_images_of_a_batch_do_not_meet():
    model, images = small(), pictures()
    _, together, mask = model(images, generator=seeded(0))
    for i in range(5):
        _, alone, _ = model(images[i : i + 1], mask[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)


def test_another_size_of_image_is_masked_at_its_own_grid():
    model = small(mask_patch_size=8)
    loss, prediction, mask = model(pictures(size=(24, 16)), generator=seeded(0))
    assert mask.shape == (5, 6 * 4)
    assert mask.sum(1).tolist() == [math.ceil(0.6 * 6) * 4] * 5
    assert prediction.shape == (5, 3, 24, 16)
    assert loss.isfinite()


def test_the_blocks_are_of_twice_the_patch_size_by_default():
    mask = small()(pictures(), generator=seeded(0))[2]
    blocks = mask.view(5, 2, 2, 2, 2).transpose(2, 3).flatten(3).mean(-1)
    assert set(blocks.unique().tolist()) == {0.0, 1.0}
    assert SimMIM(VisionTransformer(224, 16, depth=1)).mask_patch_size == 32  # as in the paper


def test_the_masks_of_a_model_come_from_its_generator():
    model, images = small(), pictures()
    masks = [model(images, generator=seeded(s))[2] for s in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_encoder_mask_token_and_head_are_trained():
    model = small()
    model(pictures(), generator=seeded(0))[0].backward()
    assert all(p.grad is not None and p.grad.ne(0).any() for p in model.parameters())


def test_the_prediction_improves_on_one_picture():
    encoder = VisionTransformer(
        8, 2, 1, embed_dim=16, depth=1, num_heads=2, generator=seeded(0)
    )
    model = SimMIM(encoder, generator=seeded(1))
    images = pictures(batch=1, channels=1, size=(8, 8)).expand(16, -1, -1, -1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator, losses = seeded(0), []
    for _ in range(300):
        loss = model(images, generator=generator)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5


def test_bfloat16_under_autocast_gives_a_finite_loss_near_the_full_one():
    model, images = small(), pictures()
    full, _, mask = model(images, generator=seeded(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, _, _ = model(images, mask)
    assert half.item() == pytest.approx(full.item(), rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("norm_target", [True, False])
def test_half_precision_gives_about_the_same_loss(norm_target, dtype):
    """As large as a small batch of photographs: over 65,504 hidden numbers, float16's largest."""
    encoder = VisionTransformer(64, 8, 3, 32, 1, 2, generator=seeded(0))
    model = SimMIM(encoder, norm_target=norm_target, generator=seeded(0))
    images = 9 * pictures(batch=16, size=(64, 64))
    images[0] = 0.5  # patches of one colour, whose deviation is 0
    expected, _, mask = model(images, generator=seeded(0))
    loss, prediction, _ = model.to(dtype)(images.to(dtype), mask)
    assert 3 * 64 * mask.sum() > 65_504
    assert loss.dtype == torch.float32 and prediction.dtype == dtype
    assert loss.item() == pytest.approx(expected.item(), rel=0.05)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_of_ones_is_one_in_every_dtype(dtype):
    ones = torch.ones(16, 3, 64, 64, dtype=dtype)
    assert masked_l1(ones, 0 * ones, ones[:, :1]) == 1
    assert masked_l1(ones, 0 * ones, ones[:, :1].bool()) == 1
    target = normalize_patches(torch.full((1, 3, 8, 8), 0.3, dtype=dtype), 4)
    assert target.dtype == dtype and target.abs().max() < 0.02


@pytest.mark.filterwarnings("ignore")
def test_simmim_is_exported_with_any_number_of_images():
    model = small()
    batch = {0: torch.export.Dim("batch", min=1, max=64)}

    def mask_of(b):
        return block_mask(b, (4, 4), 2, 0.6, seeded(b))

    example = pictures(batch=3), mask_of(3)
    exported = torch.export.export(model, example, dynamic_shapes=(batch, batch)).module()
    for b in (1, 3, 5):
        images, mask = pictures(b, batch=b), mask_of(b)
        loss, prediction, _ = model(images, mask)
        found = exported(images, mask)
        torch.testing.assert_close(found[0], loss, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[1], prediction, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("norm_target", [False, True])
def test_simmim_is_traced(norm_target):
    model = small(norm_target=norm_target).eval()
    mask = block_mask(3, (4, 4), 2, 0.6, seeded(3))
    traced = torch.jit.trace(model, (pictures(batch=3), mask))
    for b in (3, 5):
        images, mask = pictures(b, batch=b), block_mask(b, (4, 4), 2, 0.6, seeded(b))
        for found, expected in zip(traced(images, mask), model(images, mask), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def steps_on_two_ranks():
    with distributed("gloo") as world:
        model = small(positions="learned")
        parallel = DistributedDataParallel(model)  # finds unused parameters at the second step
        for step in range(3):
            loss = parallel(pictures(world.rank), generator=seeded(10 * step + world.rank))[0]
            loss.backward()
        return [p.grad for p in model.parameters()]


def test_simmim_trains_in_ddp_without_unused_parameters():
    for a, b in zip(*launch(steps_on_two_ranks, 2, time_limit=300), strict=True):
        assert torch.equal(a, b)


# --- Bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_a_ratio_outside_0_and_1_is_refused(ratio):
    with pytest.raises(ValueError, match="between 0 and 1"):
        block_mask(2, (4, 4), 1, ratio)
    with pytest.raises(ValueError, match="between 0 and 1"):
        small(mask_ratio=ratio)


@pytest.mark.parametrize("block", [0, 2, 6, 12, 32])
def test_blocks_that_do_not_fit_patch_or_image_are_refused_at_once(block):
    with pytest.raises(ValueError, match="multiple of the patch size and divide both sides"):
        small(mask_patch_size=block)


def test_a_block_as_large_as_the_image_is_refused():
    with pytest.raises(ValueError, match="hides all 1 blocks"):
        small(mask_patch_size=16)


def test_blocks_that_do_not_tile_a_grid_are_refused():
    with pytest.raises(ValueError, match="do not tile a grid of 4 × 5"):
        block_mask(2, (4, 5), 2)


def test_images_that_are_no_multiple_of_the_block_are_refused():
    with pytest.raises(ValueError, match="in an image of 20 × 16"):
        small()(pictures(size=(20, 16)))


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match="floating point"):
        small()(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))


def test_a_mask_for_the_whole_batch_is_refused():
    with pytest.raises(ValueError, match="each image needs its own"):
        small()(pictures(), torch.ones(16))


def test_a_mask_that_hides_nothing_is_refused_and_has_no_loss():
    images = pictures()
    with pytest.raises(ValueError, match="hides nothing"):
        small()(images, torch.zeros(5, 16))
    assert masked_l1(images, images, torch.zeros(5, 1, 16, 16)).isnan()


def test_a_loss_of_shapes_that_would_broadcast_is_refused():
    images = pictures()
    with pytest.raises(ValueError, match="need a prediction of that shape"):
        masked_l1(images, images, torch.ones(1, 1, 16, 16))
    with pytest.raises(ValueError, match="need a prediction of that shape"):
        masked_l1(images[:, :1], images, torch.ones(5, 1, 16, 16))
    with pytest.raises(ValueError, match=r"must be \(B, N\)"):
        pixel_mask(torch.ones(16), 4, (16, 16))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_distances_need_hidden_and_visible_pixels(value):
    with pytest.raises(ValueError, match="hidden and visible pixels"):
        average_distance(torch.full((4, 4), value))


def test_filling_wants_a_mask_of_the_images_size():
    with pytest.raises(ValueError, match="mask \\(H, W\\) of its size"):
        fill_from_nearest(torch.zeros(3, 4, 4), torch.zeros(4, 5))


# --- What the listing of section 120.1 does --------------------------------------------------


class ListingSimMIM:
    """The lines of the document's class that the facts below are about."""

    def __init__(self, encoder, decoder, patch_size=4, mask_ratio=0.5):
        self.encoder, self.decoder = encoder, decoder
        self.patch_size, self.mask_ratio = patch_size, mask_ratio

    def forward(self, images):
        mask = self._generate_mask(*images.shape[-2:])
        return self.decoder(self.encoder(images, mask)), mask

    def _generate_mask(self, height, width):
        num_patches = (height // self.patch_size) * (width // self.patch_size)
        num_mask = int(num_patches * self.mask_ratio)
        mask = torch.zeros(num_patches)
        mask[np.random.choice(num_patches, num_mask, replace=False)] = 1
        return mask

    def loss(self, predictions, targets, mask):
        return F.mse_loss(predictions[mask.bool()], targets[mask.bool()])


def listing(encoder=lambda images, mask: images, decoder=lambda features: features, **options):
    return ListingSimMIM(encoder, decoder, **options)


def test_listing_simmim_is_no_module_so_it_has_no_parameters_and_no_call():
    model = listing(nn.Linear(2, 2), nn.Linear(2, 2))
    assert not isinstance(model, nn.Module)
    with pytest.raises(TypeError, match="not callable"):
        model(pictures())
    for name in ("parameters", "to", "state_dict", "train"):
        assert not hasattr(model, name)
    assert sum(p.numel() for p in small().parameters()) > 0


def test_listing_simmim_hides_the_same_patches_in_every_image():
    np.random.seed(0)
    _, mask = listing().forward(pictures())
    assert mask.shape == (16,)  # no dimension for the images of the batch
    ours = small(mask_patch_size=4)(pictures(), generator=seeded(0))[2]
    assert ours.shape == (5, 16)
    assert len(ours.unique(dim=0)) == 5


def test_listing_simmim_loss_indexes_images_with_a_mask_of_patches():
    images = pictures()
    predictions, mask = listing().forward(images)
    with pytest.raises(IndexError, match="does not match the shape of the indexed tensor"):
        listing().loss(predictions, images, mask)
    # With as many images as patches it runs, and takes half of the images, whole.
    images = pictures(batch=16)
    predictions, mask = listing().forward(images)
    chosen = predictions[mask.bool()]
    assert chosen.shape == (8, 3, 16, 16)
    assert torch.equal(chosen, images[mask.bool()])


def test_listing_simmim_hides_patches_so_small_that_their_neighbours_give_them_away():
    # The paper's image, 192 × 192, by the listing's patches of 4 and by the paper's blocks of 32.
    def distance(block, ratio):
        side = 192 // block
        mask = block_mask(20, (side, side), 1, ratio, seeded(0))
        hidden = pixel_mask(mask, block, (192, 192))[:, 0].numpy()
        return np.mean([distance_transform_edt(m)[m == 1].mean() for m in hidden])

    assert distance(4, 0.5) < 2
    assert 10 < distance(32, 0.6) < 20  # what the paper's figure 3 finds best


def test_listing_simmim_masks_half_by_default_where_the_paper_masks_six_tenths():
    assert listing().mask_ratio == 0.5
    assert small().mask_ratio == 0.6


def test_listing_simmim_rounds_down_to_a_loss_of_nothing():
    mask = listing(mask_ratio=0.05)._generate_mask(16, 16)
    assert mask.sum() == 0
    images = pictures(batch=16)
    assert listing().loss(images, images, mask).isnan()
    assert block_mask(1, (4, 4), 1, 0.05).sum() == 1


def test_listing_simmim_squares_the_error():
    prediction, images = torch.zeros(1, 1, 1, 4), torch.tensor([[[[0.1, 0.1, 0.1, 0.9]]]])
    one = torch.ones(1)
    squared = listing().loss(prediction, images, one)
    absolute = masked_l1(prediction, images, torch.ones(1, 1, 1, 4))
    assert squared.item() == pytest.approx(0.21)
    assert absolute.item() == pytest.approx(0.3)
    # One far pixel of four makes 96 % of the squared error, and 75 % of the absolute one.
    assert 0.81 / 4 / squared.item() > 0.96
    assert 0.9 / 4 / absolute.item() == pytest.approx(0.75)


def test_listing_simmim_has_no_mask_token_and_leaves_hiding_to_an_undefined_encoder():
    images = pictures()
    # An encoder that takes images refuses the second argument.
    encoder = small().encoder
    with pytest.raises(TypeError, match="positional argument"):
        listing(encoder).forward(images)
    # One that takes and ignores it sees everything: the task is to copy.
    predictions, _ = listing().forward(images)
    assert torch.equal(predictions, images)
    # Ours has the token, and it takes the place of what is hidden.
    assert encoder.mask_token.shape == (1, 1, 24)


def test_listing_simmim_call_means_something_else_to_timm_and_transformers():
    from timm.models.vision_transformer import VisionTransformer as TimmViT
    from transformers import ViTConfig, ViTModel

    vit = TimmViT(img_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=3)
    with pytest.raises(IndexError):  # timm's second argument is a mask of the attention
        listing(vit).forward(pictures())
    vit = ViTModel(
        ViTConfig(
            image_size=16, patch_size=4, hidden_size=24, num_hidden_layers=1,
            num_attention_heads=3, intermediate_size=48,
        )
    )  # fmt: skip
    with pytest.raises(AttributeError, match="expand"):  # there is no mask token to put in
        listing(vit).forward(pictures())


def test_listing_simmim_draws_from_numpy_and_ignores_torchs_seed():
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        draws.append(listing()._generate_mask(32, 32))
    assert not torch.equal(*draws)
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        draws.append(small()(pictures())[2])
    assert torch.equal(*draws)


def test_listing_simmim_makes_its_mask_on_the_cpu_wherever_the_images_are():
    images = torch.empty(2, 3, 16, 16, device="meta")
    assert listing()._generate_mask(*images.shape[-2:]).device.type == "cpu"
    assert small().to("meta")(images)[2].device.type == "meta"


def test_listing_simmim_drops_the_border_of_an_image_that_is_no_multiple_of_the_patch():
    assert len(listing()._generate_mask(18, 18)) == 16  # 2 of 18 pixels belong to no patch
    with pytest.raises(ValueError, match="multiple of the patch size"):
        small()(pictures(size=(18, 18)))


def test_listing_simmim_stands_under_contrastive_learning_but_compares_no_two_images():
    model, images = small(), pictures()
    loss, _, mask = model(images, generator=seeded(0))
    alone = [model(images[i : i + 1], mask[i : i + 1])[0] for i in range(5)]
    torch.testing.assert_close(loss, torch.stack(alone).mean(), rtol=1e-5, atol=0)
