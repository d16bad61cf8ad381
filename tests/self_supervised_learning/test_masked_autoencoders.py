"""The masked autoencoder: equal to the paper's algorithm, and what the listing gets wrong."""

import copy
import itertools

import dlcourse  # noqa: F401  (before transformers: it makes torchvision importable)
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from dlcourse.self_supervised_learning import (
    MaskedAutoencoder,
    VisionTransformer,
    masked_autoencoder_loss_reference,
    patchify,
    random_masking,
)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def make_model(seed=0, *, image_size=32, patch_size=8, in_channels=3, positions="sincos", **kwargs):
    """A small model in float64 whose weights are all drawn at random, biases and norms too."""
    encoder = VisionTransformer(
        image_size, patch_size, in_channels, embed_dim=24, depth=2, num_heads=3, positions=positions
    )
    sizes = {"decoder_dim": 16, "decoder_depth": 2, "decoder_heads": 2}
    model = MaskedAutoencoder(encoder, **(sizes | kwargs)).double()
    g = generator(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype) + (p.dim() == 1) * 0.1)
    return model


def make_images(seed=0, b=3, size=(32, 32), channels=3):
    return torch.rand(b, channels, *size, generator=generator(seed), dtype=torch.float64)


def make_noise(seed=0, b=3, n=16):
    return torch.rand(b, n, generator=generator(1000 + seed), dtype=torch.float64)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(first, second, atol):
    assert first.keys() == second.keys() and first
    for name, grad in first.items():
        assert torch.allclose(grad, second[name], rtol=0, atol=atol), name


# --- random_masking --------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.6, 0.75, 0.9])
def test_each_image_keeps_the_same_number_of_patches(ratio):
    x = torch.randn(5, 49, 3, generator=generator(0))
    visible, mask, ids_restore = random_masking(x, ratio, generator(1))
    keep = int(49 * (1 - ratio))
    assert visible.shape == (5, keep, 3)
    assert mask.shape == ids_restore.shape == (5, 49)
    assert mask.sum(1).tolist() == [49 - keep] * 5
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def test_the_visible_patches_are_those_where_the_mask_is_zero():
    x = torch.randn(4, 20, 3, generator=generator(0))
    visible, mask, _ = random_masking(x, 0.7, generator(1))
    for image, kept, hidden in zip(x, visible, mask):
        expected = {tuple(row) for row in image[hidden == 0].tolist()}
        assert {tuple(row) for row in kept.tolist()} == expected


def test_ids_restore_puts_every_patch_back_in_its_place():
    x = torch.arange(4 * 12).view(4, 12, 1).float()
    visible, mask, ids_restore = random_masking(x, 0.75, generator(1))
    filled = torch.cat([visible, torch.full((4, 9, 1), -1.0)], 1)
    for b, i in itertools.product(range(4), range(12)):
        expected = -1.0 if mask[b, i] else x[b, i]
        assert filled[b, ids_restore[b, i]] == expected
    assert all(row.sort().values.tolist() == list(range(12)) for row in ids_restore)


def test_each_image_gets_a_mask_of_its_own():
    _, mask, _ = random_masking(torch.zeros(64, 64, 1), 0.75, generator(0))
    assert len({tuple(row) for row in mask.tolist()}) == 64


def test_every_patch_is_hidden_equally_often_and_pairs_too():
    """2,000 masks of 8 patches, 6 hidden: a share of 3/4, and of a pair 6/8 · 5/7."""
    _, mask, _ = random_masking(torch.zeros(2000, 8, 1), 0.75, generator(0))
    assert (mask.mean(0) - 0.75).abs().max() < 4 * (0.75 * 0.25 / 2000) ** 0.5
    together = mask.T @ mask / 2000
    pairs = together[~torch.eye(8, dtype=torch.bool)]
    assert (pairs - 6 / 8 * 5 / 7).abs().max() < 4 * 0.5 / 2000**0.5


def test_masks_come_from_the_generator_alone():
    x = torch.zeros(3, 16, 1)
    first = random_masking(x, 0.5, generator(3))[1]
    torch.manual_seed(123)
    assert torch.equal(first, random_masking(x, 0.5, generator(3))[1])
    assert not torch.equal(first, random_masking(x, 0.5, generator(4))[1])


def test_the_least_noise_stays_visible():
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.3]])
    visible, mask, ids_restore = random_masking(torch.arange(4.0).view(1, 4, 1), 0.5, noise=noise)
    assert visible.flatten().tolist() == [1, 3]
    assert mask.tolist() == [[1, 0, 1, 0]]
    assert ids_restore.tolist() == [[3, 0, 2, 1]]


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_ratio_outside_of_0_and_1_is_refused(ratio):
    with pytest.raises(ValueError, match=r"inside \(0, 1\)"):
        random_masking(torch.zeros(1, 4, 1), ratio)
    with pytest.raises(ValueError, match=r"inside \(0, 1\)"):
        make_model(mask_ratio=ratio)


@pytest.mark.parametrize(("n", "ratio"), [(4, 0.9), (1, 0.5), (4, 1e-20)])
def test_at_least_one_patch_must_be_visible_and_one_hidden(n, ratio):
    with pytest.raises(ValueError, match="at least one must be visible and one hidden"):
        random_masking(torch.zeros(1, n, 1), ratio)


def test_images_in_place_of_patches_and_noise_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"x must be \(B, N, D\).*pass patches"):
        random_masking(torch.zeros(1, 3, 8, 8), 0.5)
    with pytest.raises(ValueError, match=r"noise must be \(B, N\) = \(2, 4\), got \(4,\)"):
        random_masking(torch.zeros(2, 4, 1), 0.5, noise=torch.rand(4))


# --- Three forms of one loss -----------------------------------------------------------------

SETTINGS = [
    {"mask_ratio": 0.75},
    {"mask_ratio": 0.4, "norm_pix_loss": False},
    {"mask_ratio": 0.9, "positions": "learned"},
    {"mask_ratio": 0.5, "decoder_depth": 1, "in_channels": 1},
    {"mask_ratio": 0.6, "image_size": (16, 40)},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_forward_and_training_loss_equal_the_loop_over_patches(seed, settings):
    model = make_model(seed, **settings)
    n, size = model.encoder.num_patches, model.encoder.image_size
    images, noise = make_images(seed, 3, size, model.encoder.in_channels), make_noise(seed, 3, n)
    expected = masked_autoencoder_loss_reference(model, images, noise)
    wanted = gradients(model, expected)
    for loss in (model(images, noise)[0], model.training_loss(images, noise)):
        assert abs(loss - expected) < 1e-12
        assert_same_gradients(gradients(model, loss), wanted, atol=1e-10)


def test_both_forms_draw_the_same_masks_from_the_same_generator():
    model, images = make_model(), make_images()
    first = model(images, generator=generator(5))[0]
    assert abs(model.training_loss(images, generator=generator(5)) - first) < 1e-12
    assert abs(model.training_loss(images, generator=generator(6)) - first) > 1e-6


def test_what_forward_returns():
    model, images, noise = make_model(), make_images(), make_noise()
    loss, prediction, mask = model(images, noise)
    assert loss.dim() == 0
    assert prediction.shape == (3, 16, 8 * 8 * 3)
    assert torch.equal(mask, random_masking(torch.zeros(3, 16, 1), 0.75, noise=noise)[1])


# --- An independent library ------------------------------------------------------------------


def transformers_twin(model: MaskedAutoencoder) -> ViTMAEForPreTraining:
    """transformers' ViTMAE with our weights, positions and tokens (its own start as zeros)."""
    encoder = model.encoder
    d, p, c = encoder.embed_dim, encoder.patch_size, encoder.in_channels
    wide = model.mask_token.shape[2]
    config = ViTMAEConfig(
        hidden_size=d,
        num_hidden_layers=len(encoder.blocks),
        num_attention_heads=encoder.blocks[0].attention.num_heads,
        intermediate_size=4 * d,
        image_size=encoder.image_size[0],
        patch_size=p,
        num_channels=c,
        decoder_hidden_size=wide,
        decoder_num_hidden_layers=len(model.decoder_blocks),
        decoder_num_attention_heads=model.decoder_blocks[0].attention.num_heads,
        decoder_intermediate_size=4 * wide,
        mask_ratio=model.mask_ratio,
        norm_pix_loss=model.norm_pix_loss,
        layer_norm_eps=1e-6,  # the default, 1e-12, is not MAE's
    )
    twin = ViTMAEForPreTraining(config).to(encoder.class_token.dtype)
    embeddings, decoder = twin.vit.embeddings, twin.decoder
    with torch.no_grad():
        kernel = encoder.patch_embedding.weight.view(d, p, p, c).permute(0, 3, 1, 2)
        embeddings.patch_embeddings.projection.weight.copy_(kernel)
        embeddings.patch_embeddings.projection.bias.copy_(encoder.patch_embedding.bias)
        embeddings.cls_token.copy_(encoder.class_token)
        positions = torch.cat([encoder.class_position, encoder.position_table], 1)
        embeddings.position_embeddings.copy_(positions)
        positions = F.pad(model.decoder_positions, (0, 0, 1, 0))
        decoder.decoder_pos_embed.copy_(positions)
        decoder.mask_token.copy_(model.mask_token)
    for theirs, ours in [
        (twin.vit.layernorm, encoder.norm),
        (decoder.decoder_embed, model.decoder_embedding),
        (decoder.decoder_norm, model.decoder_norm),
        (decoder.decoder_pred, model.to_pixels),
        *blocks_of(twin.vit.layers, encoder.blocks),
        *blocks_of(decoder.decoder_layers, model.decoder_blocks),
    ]:
        theirs.load_state_dict(ours.state_dict())
    return twin


def blocks_of(theirs, ours):
    """Pairs of layers (theirs, ours with theirs' shapes)."""
    for a, b in zip(theirs, ours, strict=True):
        weights = b.attention.qkv.weight.detach().chunk(3)
        biases = b.attention.qkv.bias.detach().chunk(3)
        for name, weight, bias in zip(("q_proj", "k_proj", "v_proj"), weights, biases):
            layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
            layer.load_state_dict({"weight": weight, "bias": bias})
            yield getattr(a.attention, name), layer
        yield a.attention.o_proj, b.attention.proj
        yield a.layernorm_before, b.norm1
        yield a.layernorm_after, b.norm2
        yield a.mlp.fc1, b.mlp[0]
        yield a.mlp.fc2, b.mlp[2]


@pytest.mark.parametrize("norm_pix_loss", [True, False], ids=["normalised", "pixels"])
@pytest.mark.parametrize("mask_ratio", [0.75, 0.5])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_loss_prediction_and_mask_equal_transformers(dtype, atol, mask_ratio, norm_pix_loss):
    model = make_model(mask_ratio=mask_ratio, norm_pix_loss=norm_pix_loss).to(dtype)
    twin = transformers_twin(model)
    images, noise = make_images().to(dtype), make_noise().to(dtype)
    loss, prediction, mask = model(images, noise)
    theirs = twin(images, noise=noise)
    assert torch.allclose(loss, theirs.loss, rtol=0, atol=atol)
    assert torch.allclose(model.training_loss(images, noise), theirs.loss, rtol=0, atol=atol)
    assert torch.allclose(prediction, theirs.logits, rtol=0, atol=atol)
    assert torch.equal(mask, theirs.mask.to(mask.dtype))


@pytest.mark.parametrize("norm_pix_loss", [True, False], ids=["normalised", "pixels"])
def test_gradients_equal_transformers(norm_pix_loss):
    model = make_model(norm_pix_loss=norm_pix_loss)
    twin = transformers_twin(model)
    images, noise = make_images(), make_noise()
    theirs = gradients(twin, twin(images, noise=noise).loss)
    for loss in (model(images, noise)[0], model.training_loss(images, noise)):
        ours = gradients(model, loss)
        expected = {
            "encoder.class_token": theirs["vit.embeddings.cls_token"],
            "mask_token": theirs["decoder.mask_token"],
            "encoder.patch_embedding.weight": theirs[
                "vit.embeddings.patch_embeddings.projection.weight"
            ].permute(0, 2, 3, 1).flatten(1),
            "encoder.blocks.0.attention.qkv.weight": torch.cat(
                [theirs[f"vit.layers.0.attention.{q}_proj.weight"] for q in "qkv"]
            ),
            "decoder_blocks.1.attention.qkv.bias": torch.cat(
                [theirs[f"decoder.decoder_layers.1.attention.{q}_proj.bias"] for q in "qkv"]
            ),
            "decoder_blocks.1.mlp.0.weight": theirs["decoder.decoder_layers.1.mlp.fc1.weight"],
            "to_pixels.weight": theirs["decoder.decoder_pred.weight"],
        }  # fmt: skip
        assert_same_gradients({k: ours[k] for k in expected}, expected, atol=1e-10)


# --- What makes it a masked autoencoder ------------------------------------------------------


def lengths_seen(blocks, run):
    """Number of tokens that enter each of ``blocks`` while ``run()`` runs."""
    lengths = []
    hooks = [
        block.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
        for block in blocks
    ]
    run()
    for hook in hooks:
        hook.remove()
    return lengths


@pytest.mark.parametrize(("ratio", "visible"), [(0.25, 12), (0.5, 8), (0.75, 4), (0.9, 1)])
def test_visible_tokens_only_reach_the_encoder(ratio, visible):
    model, images, noise = make_model(mask_ratio=ratio), make_images(), make_noise()
    for run in (model.forward, model.training_loss):
        assert lengths_seen(model.encoder.blocks, lambda: run(images, noise)) == [1 + visible] * 2
    assert lengths_seen(model.decoder_blocks, lambda: model(images, noise)) == [17] * 2

    encoded = []
    hook = model.encoder.norm.register_forward_hook(lambda _, __, out: encoded.append(out))
    mask = model(images, noise)[2]
    pixels = patchify(images, 8)
    other = torch.where(mask.bool()[..., None], torch.rand_like(pixels), pixels)
    model(unpatchify_like(other, images), noise)
    hook.remove()
    assert torch.equal(encoded[0], encoded[1])


def unpatchify_like(patches, images):
    from dlcourse.self_supervised_learning import unpatchify

    return unpatchify(patches, 8, tuple(images.shape[-2:]))


def test_the_loss_is_on_hidden_patches_only():
    model, images, noise = make_model(), make_images(), make_noise()
    loss, prediction, mask = model(images, noise)
    error = (prediction - model.target(images)).square().mean(2)
    assert torch.allclose(loss, error[mask.bool()].mean())

    prediction.retain_grad()
    loss = (((prediction - model.target(images)).square().mean(2)) * mask).sum() / mask.sum()
    loss.backward()
    assert (prediction.grad.abs().sum(2) > 0).equal(mask.bool())


def test_hidden_pixels_matter_to_the_target_alone():
    """The prediction does not change with them: the decoder can't copy what it should paint."""
    model, images, noise = make_model(), make_images(), make_noise()
    loss, prediction, mask = model(images, noise)
    pixels = patchify(images, 8)
    other = torch.where(mask.bool()[..., None], torch.rand_like(pixels), pixels)
    new_loss, new_prediction, _ = model(unpatchify_like(other, images), noise)
    assert torch.equal(prediction, new_prediction)
    assert abs(loss - new_loss) > 1e-3


def test_the_target_is_each_patch_normalised_by_itself():
    images = make_images() * torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64).view(3, 1, 1, 1)
    target = make_model().target(images)
    assert target.mean(2).abs().max() < 1e-12
    assert (target.var(2) - 1).abs().max() < 1e-2
    assert torch.equal(make_model(norm_pix_loss=False).target(images), patchify(images, 8))


def test_a_patch_of_one_colour_gives_a_target_of_zero_and_a_finite_gradient():
    model = make_model()
    images = torch.full((2, 3, 32, 32), 0.3, dtype=torch.float64)
    assert model.target(images).abs().max() < 1e-9
    grads = gradients(model, model.training_loss(images, make_noise(b=2)))
    assert all(g.isfinite().all() for g in grads.values())


def test_moving_a_patch_changes_what_is_predicted():
    """Positions are added before masking: the same pixels elsewhere are another token."""
    model, noise = make_model(), make_noise(b=1)
    images = make_images(b=1)
    _, mask, _ = random_masking(torch.zeros(1, 16, 1), 0.75, noise=noise)
    i, j = (mask[0] == 0).nonzero().flatten()[:2].tolist()
    patches = patchify(images, 8)
    swapped = patches.clone()
    swapped[0, [i, j]] = patches[0, [j, i]]
    first, second = (
        model(unpatchify_like(x, images), noise)[1][0, mask[0].bool()] for x in (patches, swapped)
    )
    assert (first - second).abs().max() > 1e-3


def test_two_hidden_patches_are_told_apart_by_the_decoders_positions_alone():
    model, images, noise = make_model(), make_images(), make_noise()
    prediction, mask = model(images, noise)[1:]
    hidden = prediction[0, mask[0].bool()]
    assert (hidden[0] - hidden[1]).abs().max() > 1e-3
    model.decoder_positions.zero_()
    prediction = model(images, noise)[1][0, mask[0].bool()]
    assert torch.allclose(prediction, prediction[:1].expand_as(prediction), atol=1e-12)


def test_every_parameter_is_trained_but_the_encoders_mask_token():
    """SimMIM's encoder sees that token, the masked autoencoder's never does."""
    model = make_model(positions="learned")
    grads = gradients(model, model.training_loss(make_images(), make_noise()))
    missing = {name for name, _ in model.named_parameters()} - grads.keys()
    assert missing == {"encoder.mask_token"}
    assert all(g.abs().max() > 0 for g in grads.values())


def test_the_decoder_is_drawn_from_the_generator_and_the_encoder_left_alone():
    encoder = VisionTransformer(16, 8, embed_dim=8, depth=1, num_heads=1, generator=generator(0))
    before = copy.deepcopy(encoder.state_dict())
    first, second, other = (
        MaskedAutoencoder(encoder, 8, 1, 1, generator=generator(seed)) for seed in (1, 1, 2)
    )
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(first.to_pixels.weight, second.to_pixels.weight)
    assert not torch.equal(first.to_pixels.weight, other.to_pixels.weight)
    assert first.mask_token.abs().max() > 0


def test_the_default_model_is_the_papers():
    with torch.device("meta"):  # sizes without numbers
        encoder = VisionTransformer(224, 16, embed_dim=768, depth=12, num_heads=12)
        model = MaskedAutoencoder(encoder)
        theirs = ViTMAEForPreTraining(ViTMAEConfig())
    count = sum(p.numel() for p in model.parameters())
    unused = encoder.mask_token.numel()
    fixed = 768 * 197 + 512 * 197  # positions, counted by transformers as parameters
    assert count - unused + fixed == sum(p.numel() for p in theirs.parameters())
    assert model.mask_ratio == 0.75 and model.norm_pix_loss
    assert (len(model.decoder_blocks), model.mask_token.shape[2]) == (8, 512)


def test_it_learns_to_paint_what_follows_from_the_visible_patches():
    """Images of one random grey. The best guess without looking has an error of 1/12 = 0.083."""
    g = generator(0)
    encoder = VisionTransformer(8, 4, 1, embed_dim=16, depth=1, num_heads=2, generator=g)
    model = MaskedAutoencoder(encoder, 16, 1, 2, norm_pix_loss=False, generator=g)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(150):
        images = torch.rand(32, 1, 1, 1, generator=g).expand(-1, 1, 8, 8)
        loss = model.training_loss(images, generator=g)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


# --- Reconstructions -------------------------------------------------------------------------


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_a_reconstruction_keeps_visible_patches_and_paints_the_hidden_ones(norm_pix_loss):
    model, images, noise = make_model(norm_pix_loss=norm_pix_loss), make_images(), make_noise()
    picture, mask = model.reconstruct(images, noise=noise)
    _, prediction, expected_mask = model(images, noise)
    assert torch.equal(mask, expected_mask)
    before, after, hidden = patchify(images, 8), patchify(picture, 8), mask.bool()
    assert torch.equal(before[~hidden], after[~hidden])
    expected = prediction
    if norm_pix_loss:
        expected = prediction * before.std(2, keepdim=True) + before.mean(2, keepdim=True)
    assert torch.allclose(after[hidden], expected[hidden], atol=1e-4)


def test_a_reconstruction_can_use_another_ratio_than_the_training():
    model, images = make_model(), make_images()
    assert model.reconstruct(images, 0.25, generator=generator(0))[1].sum(1).tolist() == [4] * 3
    assert model.reconstruct(images, generator=generator(0))[1].sum(1).tolist() == [12] * 3
    assert model.mask_ratio == 0.75


def test_a_perfect_prediction_gives_the_image_back():
    model, images = make_model(), make_images()
    model.decode = lambda encoded, ids_restore: model.target(images)
    assert torch.allclose(model.reconstruct(images)[0], images, atol=1e-12)


# --- Bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["forward", "training_loss", "reconstruct"])
def test_bad_images_are_refused(method):
    run = getattr(make_model(), method)
    with pytest.raises(TypeError, match="must be floating point, got torch.uint8"):
        run(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"must be \(B, 3, H, W\), got \(1, 1, 32, 32\)"):
        run(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="paints images of 32 × 32, got 32 × 24"):
        run(torch.zeros(1, 3, 32, 24))


def test_noise_of_another_shape_is_refused():
    for run in (make_model().forward, make_model().training_loss):
        with pytest.raises(ValueError, match=r"noise must be \(B, N\) = \(3, 16\)"):
            run(make_images(), torch.rand(16))


def test_an_image_that_patches_do_not_tile_is_refused():
    with pytest.raises(ValueError, match="do not tile an image of 30 × 30"):
        make_model(image_size=30)


@pytest.mark.parametrize("sizes", [{"decoder_heads": 3}, {"decoder_depth": 0}])
def test_a_decoder_that_does_not_fit_is_refused(sizes):
    with pytest.raises(ValueError, match="decoder_dim a multiple of decoder_heads"):
        make_model(**sizes)


# --- What the document's listing does --------------------------------------------------------


def listing_mask(patches, mask_ratio):
    """The listing's ``_generate_mask``, as it is."""
    N, D = patches.shape[0], patches.shape[1]
    num_visible = int(N * (1 - mask_ratio))
    ids_shuffle = torch.randperm(N)
    ids_restore = torch.argsort(ids_shuffle)
    ids_keep = ids_shuffle[:num_visible]
    mask = torch.ones(N)
    mask[ids_keep] = 0
    return mask, ids_restore, D


def listing_patches(images, p):
    """The listing's ``_to_patches`` with its permutation mended: patches in one pool."""
    b, c, h, w = images.shape
    x = images.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(b * (h // p) * (w // p), c, p, p)


class ListingMAE:
    """The parts of the listing that run."""

    def __init__(self, encoder_dim, decoder_dim):
        self.encoder_to_decoder = nn.Linear(encoder_dim, decoder_dim)

    def fill_mask_tokens(self, features, ids_restore, mask):
        mask_tokens = self.mask_token.expand(
            features.shape[0], ids_restore.shape[0] - features.shape[1], -1
        )
        full_features = torch.cat([features, mask_tokens], dim=1)
        index = ids_restore.unsqueeze(-1).expand(-1, -1, features.shape[-1])
        return torch.gather(full_features, dim=1, index=index)


def test_listing_permutes_seven_axes_of_six():
    x = make_images(b=2).reshape(2, 3, 4, 8, 4, 8)
    with pytest.raises(RuntimeError):
        x.permute(0, 2, 4, 0, 1, 3, 5)
    assert patchify(make_images(b=2), 8).shape == (2, 16, 192)


def listing_kept(seed, b=2, n=64):
    """How many patches of each image the listing keeps, over the pool of all."""
    torch.manual_seed(seed)
    mask, _, _ = listing_mask(torch.zeros(b * n, 3, 8, 8), 0.75)
    return (1 - mask).view(b, n).sum(1).int().tolist()


def test_listing_masks_one_pool_of_all_images_so_they_keep_different_numbers():
    kept = [listing_kept(seed) for seed in range(50)]
    assert all(sum(pair) == 32 for pair in kept)
    assert sum(first != second for first, second in kept) > 25
    own = random_masking(torch.zeros(2, 64, 1), 0.75, generator(0))[1]
    assert (1 - own).sum(1).tolist() == [16, 16]


def test_listing_reshape_puts_patches_of_one_image_into_another():
    images = torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 64, 64)])  # one black, one white
    seed = next(seed for seed in range(50) if listing_kept(seed) != [16, 16])
    torch.manual_seed(seed)
    patches = listing_patches(images, 8)
    mask, _, _ = listing_mask(patches, 0.75)
    visible = patches[~mask.bool()].reshape(2, 16, -1)
    assert sorted(len(image.unique()) for image in visible) == [1, 2]  # one of them is mixed
    for image in random_masking(patchify(images, 8), 0.75, generator(0))[0]:
        assert len(image.unique()) == 1


def test_listing_reshape_loses_the_patch_its_last_axis_is_a_row_of_pixels():
    """``patches.shape[-1]`` is the width of a patch, 8, not the length of its vector, 192."""
    patches = listing_patches(make_images(b=2), 8)
    mask, _, _ = listing_mask(patches, 0.75)
    visible = patches[~mask.bool()].reshape(2, -1, patches.shape[-1])
    assert visible.shape == (2, 4 * 3 * 8, 8)


def test_listing_takes_the_channels_for_the_width_of_a_patch():
    *_, width = listing_mask(listing_patches(make_images(b=2), 8), 0.75)
    assert width == 3
    assert patchify(make_images(b=2), 8).shape[2] == 192


def test_listing_never_makes_its_mask_token():
    mae = ListingMAE(24, 16)
    with pytest.raises(AttributeError, match="mask_token"):
        mae.fill_mask_tokens(torch.zeros(2, 4, 16), torch.arange(16), None)
    assert isinstance(make_model().mask_token, nn.Parameter)


def test_listing_order_has_no_batch_axis_so_that_nothing_can_be_unshuffled():
    mae = ListingMAE(24, 16)
    mae.mask_token = torch.zeros(1, 1, 16)
    _, ids_restore, _ = listing_mask(torch.zeros(2 * 16, 3, 8, 8), 0.75)
    assert ids_restore.shape == (32,)  # of the pool
    features = torch.zeros(2, 4, 16)
    with pytest.raises(RuntimeError, match="expand"):
        mae.fill_mask_tokens(features, ids_restore, None)
    assert random_masking(torch.zeros(2, 16, 1), 0.75)[2].shape == (2, 16)


def test_listing_without_positions_can_not_tell_where_a_patch_was():
    """Its encoder gets bare patches: any order of them gives the same features, reordered."""
    encoder = make_model().encoder
    patches = encoder.patch_embedding(patchify(make_images(b=1), 8))
    order = torch.randperm(16, generator=generator(0))
    bare = encoder.encode(patches)[:, 1:], encoder.encode(patches[:, order])[:, 1:]
    assert torch.allclose(bare[0][:, order], bare[1], atol=1e-12)
    placed = [
        encoder.encode(x + encoder.positions((32, 32)))[:, 1:] for x in (patches, patches[:, order])
    ]
    assert (placed[0][:, order] - placed[1]).abs().max() > 1e-3


def test_listing_decoder_paints_every_hidden_patch_alike():
    """All mask tokens are one vector, and no position is added to them."""
    model = make_model()
    tokens = torch.cat([torch.randn(1, 4, 16).double(), model.mask_token.expand(1, 12, -1)], 1)
    y = tokens
    for block in model.decoder_blocks:
        y = block(y)
    hidden = y[0, 4:]
    assert torch.allclose(hidden, hidden[:1].expand_as(hidden), atol=1e-12)


def test_listing_has_no_class_token_to_keep():
    """What leaves the listing's encoder are visible patches alone; ours leads with one more."""
    model, images, noise = make_model(), make_images(), make_noise()
    assert lengths_seen(model.encoder.blocks, lambda: model(images, noise)) == [1 + 4] * 2
    grads = gradients(model, model(images, noise)[0])
    assert grads["encoder.class_token"].abs().max() > 0


def test_listing_compares_features_of_the_decoder_with_pixels():
    """The decoder's output has its width, 512, not the 768 pixels of a patch."""
    features, patches = torch.zeros(2, 196, 512), torch.zeros(2, 196, 768)
    mask = random_masking(patches, 0.75, generator(0))[1].bool()
    with pytest.raises(RuntimeError), pytest.warns(UserWarning, match="different to the input"):
        F.mse_loss(features[mask], patches[mask])
    assert MaskedAutoencoder(
        VisionTransformer(224, 16, embed_dim=24, depth=1, num_heads=1), decoder_depth=1
    ).to_pixels(features).shape == patches.shape


def test_listing_targets_let_bright_contrast_rule_the_loss():
    """With raw pixels a patch counts by its variance; normalised, all count alike."""
    g = generator(0)
    strong, weak = torch.rand(1, 3, 8, 8, generator=g), 0.1 * torch.rand(1, 3, 8, 8, generator=g)
    images = torch.cat([strong, weak], 3).double()  # (1, 3, 8, 16): two patches

    def shares(norm_pix_loss):
        model = make_model(image_size=(8, 16), mask_ratio=0.5, norm_pix_loss=norm_pix_loss)
        error = model.target(images).var(2)[0]  # of the best constant for each patch
        return (error / error.sum()).tolist()

    assert shares(norm_pix_loss=False)[0] > 0.98
    assert shares(norm_pix_loss=True)[0] == pytest.approx(0.5, abs=0.01)


def test_listing_is_no_module_so_its_projection_is_never_trained_nor_moved():
    mae = ListingMAE(24, 16)
    assert not isinstance(mae, nn.Module)
    assert not hasattr(mae, "parameters") and not callable(mae)
    names = {name for name, _ in make_model().named_parameters()}
    assert {"decoder_embedding.weight", "mask_token", "encoder.class_token"} <= names


def test_listing_randomness_can_not_be_given_a_seed_of_its_own():
    """``torch.randperm`` without a generator: whatever ran before changes the masks."""
    patches = torch.zeros(64, 3, 8, 8)
    torch.manual_seed(0)
    first = listing_mask(patches, 0.75)[0]
    torch.manual_seed(0)
    torch.rand(1)  # something else draws a number
    assert not torch.equal(first, listing_mask(patches, 0.75)[0])
