"""The vision transformer: timm's function of its weights, and patches that fit together again."""

import math

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dlcourse.large_scale_training import distributed, launch
from dlcourse.self_supervised_learning import (
    DINO,
    DINOHead,
    DINOLoss,
    MaskedAutoencoder,
    SimCLR,
    SimMIM,
    VisionTransformer,
    iBOTLoss,
    patchify,
    sincos_positions,
    unpatchify,
)
from dlcourse.self_supervised_learning.patches import widened
from dlcourse.self_supervised_learning.vision_transformer import initialize

# After dlcourse, which makes torchvision importable beside a CPU build of torch.
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer  # isort: skip

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4), *[st.integers(1, 5)] * 3)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(*shape, seed=0):
    return torch.rand(shape, generator=gen(seed))


def small(seed=0, image_size=32, patch_size=8, **kwargs):
    """A model whose weights are large enough for every part to matter."""
    settings = {"embed_dim": 24, "depth": 3, "num_heads": 4, **kwargs}
    model = VisionTransformer(image_size, patch_size, generator=gen(seed), **settings)
    g = gen(seed + 1000)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=g))
    return model.eval()


# --- Patches --------------------------------------------------------------------------------------


@given(SIZES)
def test_unpatchify_is_the_inverse_of_patchify(sizes):
    b, c, p, rows, columns = sizes
    images = pictures(b, c, p * rows, p * columns)
    patches = patchify(images, p)
    assert patches.shape == (b, rows * columns, p * p * c)
    assert torch.equal(unpatchify(patches, p, (p * rows, p * columns)), images)


@given(SIZES)
def test_patches_go_row_by_row_and_within_one_by_row_column_channel(sizes):
    b, c, p, rows, columns = sizes
    images = torch.arange(b * c * p * rows * p * columns).view(b, c, p * rows, p * columns)
    patches = patchify(images, p)
    i, k, y, x = b - 1, c - 1, p * rows - 1 - (p > 1), p * columns - 1  # any pixel
    patch = (y // p) * columns + x // p
    place = ((y % p) * p + x % p) * c + k
    assert patches[i, patch, place] == images[i, k, y, x]


@pytest.mark.parametrize(("size", "patch"), [(32, 8), (24, 4), (16, 16)])
def test_patches_are_those_of_transformers_mae(size, patch):
    config = transformers.ViTMAEConfig(
        image_size=size, patch_size=patch, hidden_size=8, num_hidden_layers=1,
        num_attention_heads=1, intermediate_size=8, decoder_hidden_size=8,
        decoder_num_hidden_layers=1, decoder_num_attention_heads=1, decoder_intermediate_size=8,
    )  # fmt: skip
    reference = transformers.ViTMAEForPreTraining(config)
    images = pictures(3, 3, size, size)
    patches = patchify(images, patch)
    assert torch.equal(patches, reference.patchify(images))
    assert torch.equal(unpatchify(patches, patch, (size, size)), reference.unpatchify(patches))


@pytest.mark.parametrize(
    ("shape", "patch", "message"),
    [
        ((2, 3, 30, 32), 8, "multiple of patch_size"),
        ((2, 3, 32, 30), 8, "multiple of patch_size"),
        ((2, 3, 4, 4), 8, "do not tile"),
        ((2, 3, 0, 8), 8, "do not tile"),
        ((2, 3, 8, 8), 0, "do not tile"),
        ((3, 32, 32), 8, r"images\[None\]"),
    ],
)
def test_images_that_do_not_fall_into_patches_are_refused(shape, patch, message):
    with pytest.raises(ValueError, match=message):
        patchify(torch.zeros(shape), patch)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 15, 48), r"expected \(B, 16"),
        ((16, 48), r"expected \(B, 16"),
        ((2, 16, 47), "no multiple"),
        ((2, 16, 0), "no multiple"),
    ],
)
def test_patches_that_do_not_make_an_image_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        unpatchify(torch.zeros(shape), 4, (16, 16))


# --- Positions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "side"), [(16, 4), (32, 7), (8, 1)])
def test_sincos_positions_are_those_of_transformers_mae(dim, side):
    config = transformers.ViTMAEConfig(
        image_size=2 * side, patch_size=2, hidden_size=dim, num_hidden_layers=1,
        num_attention_heads=1, intermediate_size=8,
    )  # fmt: skip
    embeddings = transformers.ViTMAEModel(config).embeddings
    # transformers 5 marks the projection as loaded, and leaves the positions of a new model at 0.
    embeddings.patch_embeddings.projection._is_hf_initialized = False
    embeddings.initialize_weights()
    expected = embeddings.position_embeddings[0, 1:].detach()
    torch.testing.assert_close(sincos_positions(dim, (side, side)), expected, atol=1e-6, rtol=0)


def test_sincos_positions_of_a_grid_that_is_not_square_number_by_number():
    d, rows, columns = 12, 3, 5
    table = sincos_positions(d, (rows, columns))
    assert table.shape == (rows * columns, d) and table.dtype == torch.float32
    for row in range(rows):
        for column in range(columns):
            expected = []
            for coordinate in (column, row):
                angles = [coordinate / 10000 ** (i / (d / 4)) for i in range(d // 4)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            got = table[row * columns + column].tolist()
            assert got == pytest.approx(expected, abs=1e-6)


def test_the_product_of_two_positions_depends_on_their_distance_alone():
    table = sincos_positions(32, (6, 7)).view(6, 7, 32)
    for dy, dx in ((0, 1), (2, 0), (3, 4)):
        products = (table[dy:, dx:] * table[: 6 - dy, : 7 - dx]).sum(-1)
        assert products.max() - products.min() < 1e-4
    assert (table[0, 0] * table[0, 3]).sum() < (table[0, 0] * table[0, 1]).sum() < 16


def test_sincos_positions_need_a_multiple_of_four():
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_positions(18, (2, 2))
    with pytest.raises(ValueError, match="multiple of 4"):
        VisionTransformer(16, 8, embed_dim=18, num_heads=2)
    VisionTransformer(16, 8, embed_dim=18, num_heads=2, depth=1, positions="learned")


@pytest.mark.parametrize("positions", ["sincos", "learned"])
@pytest.mark.parametrize("size", [(16, 48), (40, 24), (64, 64)])
def test_other_sizes_have_positions_interpolated_as_in_transformers(positions, size):
    model = small(positions=positions)
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    embeddings = transformers.ViTModel(config).embeddings
    with torch.no_grad():
        embeddings.position_embeddings[:, 1:] = model.position_table
        patches = size[0] // 8 * (size[1] // 8)
        expected = embeddings.interpolate_pos_encoding(torch.zeros(1, 1 + patches, 24), *size)
        torch.testing.assert_close(model.positions(size), expected[:, 1:])


def test_the_models_own_size_has_its_positions_exactly_and_a_new_size_all_between_them():
    model = small(image_size=(16, 32), positions="learned")
    assert model.positions((16, 32)) is model.position_table
    with torch.no_grad():
        ramp = torch.arange(4.0).repeat(2)  # the column of each patch
        model.position_table.copy_(ramp[None, :, None].expand(1, 8, 24))
    finer = model.positions((32, 64)).detach()[0, :, 0].view(4, 8)
    assert torch.equal(finer, finer[:1].expand(4, 8))  # columns stay columns
    torch.testing.assert_close(finer[0, 2:6], torch.tensor([0.75, 1.25, 1.75, 2.25]), atol=0.1,
                               rtol=0)  # fmt: skip


def test_learned_positions_are_trained_also_at_another_size_and_sincos_never():
    for positions in ("learned", "sincos"):
        model = small(positions=positions)
        model(pictures(2, 3, 16, 16)).square().sum().backward()
        names = {n for n, p in model.named_parameters() if p.grad is not None}
        assert ("position_table" in names) == (positions == "learned")
        assert ("class_position" in names) == (positions == "learned")
        assert "position_table" in model.state_dict()


# --- The model ------------------------------------------------------------------------------------


def copied_into_timm(model, image_size, patch_size, in_channels=3):
    """timm's model with the same weights."""
    reference = TimmVisionTransformer(
        img_size=image_size, patch_size=patch_size, in_chans=in_channels, num_classes=0,
        embed_dim=model.embed_dim, depth=len(model.blocks),
        num_heads=model.blocks[0].attention.num_heads,
        mlp_ratio=model.blocks[0].mlp[0].out_features / model.embed_dim,
    )  # fmt: skip
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in (
            ("attention", "attn"), ("mlp.0", "mlp.fc1"), ("mlp.2", "mlp.fc2"),
            ("patch_embedding", "patch_embed.proj"), ("class_token", "cls_token"),
        ):  # fmt: skip
            name = name.replace(ours, theirs)
        state[name] = value
    # A convolution's kernel is (D, C, p, p); ours is a matrix on (row, column, channel).
    kernel = state["patch_embed.proj.weight"].view(-1, patch_size, patch_size, in_channels)
    state["patch_embed.proj.weight"] = kernel.permute(0, 3, 1, 2)
    state["pos_embed"] = torch.cat([state.pop("class_position"), state.pop("position_table")], 1)
    del state["mask_token"]
    reference.load_state_dict(state)  # strict: no weight is missing or left over
    return reference.eval()


@pytest.mark.parametrize("positions", ["sincos", "learned"])
@pytest.mark.parametrize(
    ("image_size", "patch_size", "channels", "mlp_ratio"),
    [((32, 32), 8, 3, 4.0), ((24, 40), 8, 1, 2.0), ((16, 16), 4, 5, 1.5)],
)
def test_tokens_are_timms_given_its_weights(image_size, patch_size, channels, mlp_ratio, positions):
    model = small(
        image_size=image_size, patch_size=patch_size, in_channels=channels, mlp_ratio=mlp_ratio,
        positions=positions,
    )  # fmt: skip
    reference = copied_into_timm(model, image_size, patch_size, channels)
    images = pictures(3, channels, *image_size)
    with torch.no_grad():
        expected = reference.forward_features(images)
        tokens = model.forward_features(images)
    n = image_size[0] // patch_size * (image_size[1] // patch_size)
    assert tokens.shape == (3, 1 + n, 24) and expected.std() > 0.5
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(images), expected[:, 0], atol=1e-5, rtol=1e-5)


def test_gradients_are_timms_too():
    model = small(positions="learned")
    reference = copied_into_timm(model, (32, 32), 8)
    images = pictures(2, 3, 32, 32)
    model(images).square().sum().backward()
    reference(images).square().sum().backward()
    for ours, theirs in (
        (model.blocks[0].attention.qkv.weight.grad, reference.blocks[0].attn.qkv.weight.grad),
        (model.blocks[2].mlp[0].bias.grad, reference.blocks[2].mlp.fc1.bias.grad),
        (model.class_token.grad, reference.cls_token.grad),
        (model.position_table.grad, reference.pos_embed.grad[:, 1:]),
    ):
        assert theirs.abs().max() > 0.1
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_the_default_sizes_are_those_of_deits_tiny_model():
    model = VisionTransformer(224, 16, positions="learned", generator=gen())
    deit = TimmVisionTransformer(embed_dim=192, depth=12, num_heads=3, num_classes=0)
    mask_token = model.mask_token.numel()
    assert sum(p.numel() for p in model.parameters()) - mask_token == sum(
        p.numel() for p in deit.parameters()
    )


def test_tokens_follow_their_order_and_the_class_token_does_not_see_it():
    model = small()
    tokens = torch.randn(2, 16, 24, generator=gen())
    order = torch.randperm(16, generator=gen(1))
    with torch.no_grad():
        first, second = model.encode(tokens), model.encode(tokens[:, order])
    torch.testing.assert_close(second[:, 0], first[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(second[:, 1:], first[:, 1:][:, order], atol=1e-5, rtol=1e-5)


def test_any_number_of_tokens_can_be_encoded_and_images_do_not_meet():
    model = small()
    tokens = torch.randn(3, 16, 24, generator=gen())
    with torch.no_grad():
        assert model.encode(tokens[:, :5]).shape == (3, 6, 24)
        assert model.encode(tokens[:, :0]).shape == (3, 1, 24)
        torch.testing.assert_close(
            model.encode(tokens)[1:2], model.encode(tokens[1:2]), atol=1e-5, rtol=1e-5
        )


# --- The mask -------------------------------------------------------------------------------------


def encoded(model, images, mask, monkeypatch):
    """The tokens that forward_features hands to the blocks."""
    seen = []
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(model, "encode", lambda tokens: seen.append(tokens) or tokens)
        model.forward_features(images, mask)
    return seen[0]


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.int64])
def test_a_hidden_patch_is_the_mask_token_at_its_own_position(dtype, monkeypatch):
    model, images = small(positions="learned"), pictures(3, 3, 32, 32)
    mask = torch.rand(3, 16, generator=gen()) < 0.5  # each image has its own
    with torch.no_grad():
        patches = model.embed_patches(images)
    tokens = encoded(model, images, mask.to(dtype), monkeypatch)
    for i in range(3):
        for n in range(16):
            content = model.mask_token[0, 0] if mask[i, n] else patches[i, n]
            assert torch.equal(tokens[i, n], content + model.position_table[0, n])


def test_what_is_hidden_cannot_be_seen():
    model, images = small(), pictures(2, 3, 32, 32)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, 5] = True  # row 1, column 1: pixels 8 … 15
    changed = images.clone()
    changed[0, :, 8:16, 8:16] = pictures(3, 8, 8, seed=1)
    with torch.no_grad():
        assert torch.equal(model.forward_features(images, mask),
                           model.forward_features(changed, mask))  # fmt: skip
        assert not torch.equal(model(images), model(changed))  # without the mask it is seen


def test_a_mask_that_hides_nothing_changes_nothing():
    model, images = small(), pictures(2, 3, 32, 32)
    with torch.no_grad():
        got = model.forward_features(images, torch.zeros(2, 16))
        assert torch.equal(got, model.forward_features(images))


def test_the_mask_token_is_trained_where_something_is_hidden_if_it_was_asked_for():
    images = pictures(2, 3, 32, 32)
    model = small()
    model.forward_features(images, torch.ones(2, 16)).square().sum().backward()
    assert model.mask_token.grad is None
    model = small(train_mask_token=True)
    model.forward_features(images, torch.ones(2, 16)).square().sum().backward()
    assert model.mask_token.grad.abs().max() > 0
    assert model.patch_embedding.weight.grad.abs().max() == 0  # all patches were hidden


def method(name, patches=16):
    """Each method of the chapter around a small encoder: the module, and what it is called with."""
    encoder, two = VisionTransformer(32, 8, 3, 24, 2, 4, generator=gen()), pictures(8, 3, 32, 32)
    views = two[:4], two[4:]
    if name == "SimCLR":
        return SimCLR(encoder), views
    if name == "SimMIM":
        return SimMIM(encoder), views[:1]
    if name == "MAE":
        return MaskedAutoencoder(encoder, 16, 2, 2), views[:1]
    head = lambda: DINOHead(24, 16, hidden_dim=16, bottleneck_dim=8)  # noqa: E731
    if name == "DINO":
        return DINO(encoder, head(), DINOLoss(16)), (views,)
    parts = {"patch_head": head(), "patch_loss": iBOTLoss(16)}
    return DINO(encoder, head(), DINOLoss(16), **parts), (views, torch.ones(8, patches).bool())


METHODS = ["SimCLR", "SimMIM", "MAE", "DINO", "DINO with iBOT"]


def loss_of(module, arguments):
    """The loss that a call returns first, or alone."""
    if len(arguments) == 2 and isinstance(arguments[0], tuple):  # iBOT's mask goes by name
        result = module(arguments[0], mask=arguments[1])
    else:
        result = module(*arguments)
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_that_requires_a_gradient_gets_one(name):
    module, arguments = method(name)
    loss_of(module, arguments).backward()
    without = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert any(n.endswith("encoder.mask_token") for n in trained) == (
        name in ("SimMIM", "DINO with iBOT")
    )


def two_steps_of_every_method():
    """Data parallelism waits for each gradient: at the second step it names one that is missing."""
    with distributed("gloo"):
        losses = {}
        for name in METHODS:
            torch.manual_seed(0)
            module, arguments = method(name)
            parallel = DistributedDataParallel(module)
            optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.1)
            losses[name] = []
            for _ in range(2):
                loss = loss_of(parallel, arguments)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses[name].append(loss.item())
        return losses


def test_every_method_takes_two_steps_under_data_parallelism():
    for losses in launch(two_steps_of_every_method, 2, time_limit=300):
        assert list(losses) == METHODS
        assert all(math.isfinite(value) for pair in losses.values() for value in pair)


@pytest.mark.parametrize("shape", [(16,), (1, 16), (2, 15), (2, 4, 4)])
def test_a_mask_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="each image needs its own"):
        small().forward_features(pictures(2, 3, 32, 32), torch.zeros(shape))


# --- Exported, traced, halved ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_it_is_exported_and_traced_with_any_number_of_images():
    model, images = small(), pictures(2, 3, 32, 32)
    exported = torch.export.export(
        model, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
    ).module()
    traced = torch.jit.trace(model, images)
    for n in (1, 2, 5):
        other = pictures(n, 3, 32, 32, seed=n)
        with torch.no_grad():
            expected = model(other)
            torch.testing.assert_close(exported(other), expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(traced(other), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_about_the_same_tokens(dtype):
    model, images = small(), pictures(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.forward_features(images)
        tokens = small().to(dtype).forward_features(images.to(dtype))
    assert tokens.dtype == dtype
    torch.testing.assert_close(tokens.float(), expected, atol=0.1, rtol=0.05)


def test_widened_is_float32_of_what_is_narrower_and_leaves_the_rest():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert widened(torch.ones(2, dtype=dtype)).dtype == torch.float32
    assert widened(torch.ones(2, dtype=torch.float64)).dtype == torch.float64


# --- The last tokens alone ------------------------------------------------------------------------


@pytest.mark.parametrize("last", [1, 4, 9])
def test_a_block_for_the_last_tokens_is_the_block_cut_to_them_with_its_gradients(last):
    block = small().blocks[0].double()
    x = torch.randn(2, 9, 24, generator=gen(), dtype=torch.float64, requires_grad=True)
    whole, few = block(x)[:, -last:], block(x, last)
    assert few.shape == (2, last, 24)
    torch.testing.assert_close(few, whole, atol=1e-12, rtol=0)
    inputs = [x, *block.parameters()]
    first, second = (torch.autograd.grad(y.square().sum(), inputs) for y in (whole, few))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


# --- Attention of the class token -----------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (16, 48)])
def test_class_attention_is_softmax_of_query_times_key_in_the_last_block(size):
    model, images = small(positions="learned"), pictures(2, 3, *size)
    entering = []
    model.blocks[-1].register_forward_pre_hook(lambda _, args: entering.append(args[0]))
    with torch.no_grad():
        model(images)
        x = model.blocks[-1].norm1(entering[0])
        projection = model.blocks[-1].attention.qkv
        rows, columns = size[0] // 8, size[1] // 8
        attention = model.class_attention(images)
        assert attention.shape == (2, 4, rows, columns)
        for i in range(2):
            for head in range(4):
                query = slice(head * 6, head * 6 + 6)
                key = slice(24 + head * 6, 24 + head * 6 + 6)
                q = projection.weight[query] @ x[i, 0] + projection.bias[query]
                k = x[i] @ projection.weight[key].T + projection.bias[key]
                scores = (k @ q / math.sqrt(6)).exp()
                expected = (scores / scores.sum())[1:].view(rows, columns)
                torch.testing.assert_close(attention[i, head], expected, atol=1e-6, rtol=1e-4)


def test_class_attention_sums_to_less_than_one_by_what_the_class_token_keeps():
    model, images = small(), pictures(2, 3, 32, 32)
    attention = model.class_attention(images)
    total = attention.sum((2, 3))
    assert (attention > 0).all() and (total < 1).all() and total.max() > 0.3
    assert not attention.requires_grad


def test_attention_weights_are_those_that_forward_uses():
    attention = small().blocks[0].attention
    x = torch.randn(2, 9, 24, generator=gen())
    with torch.no_grad():
        weights = attention.weights(x)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 9))
        values = attention.qkv(x)[..., 48:].view(2, 9, 4, 6)
        mixed = torch.einsum("bhnm,bmhd->bnhd", weights, values).flatten(2)
        torch.testing.assert_close(attention(x), attention.proj(mixed), atol=1e-5, rtol=1e-5)


# --- Weights at the start -------------------------------------------------------------------------


def test_the_generator_alone_decides_the_weights():
    torch.manual_seed(0)
    first = VisionTransformer(16, 8, depth=2, positions="learned", generator=gen(1))
    torch.manual_seed(1)
    again = VisionTransformer(16, 8, depth=2, positions="learned", generator=gen(1))
    other = VisionTransformer(16, 8, depth=2, positions="learned", generator=gen(2))
    for (name, a), b in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(first.patch_embedding.weight, other.patch_embedding.weight)
    torch.manual_seed(3)
    default = VisionTransformer(16, 8, depth=1)
    torch.manual_seed(3)
    assert torch.equal(default.mask_token, VisionTransformer(16, 8, depth=1).mask_token)


def test_matrices_start_as_glorots_uniform_and_tokens_as_a_normal_of_two_hundredths():
    model = VisionTransformer(64, 8, depth=1, positions="learned", generator=gen())
    weights = {n: p for n, p in model.named_parameters() if "norm" not in n and "bias" not in n}
    tokens = {"class_token", "mask_token", "position_table", "class_position"}
    assert tokens < set(weights)
    for name, p in weights.items():
        if name in tokens:
            assert 0.03 < p.abs().max() <= 0.04, name
            if p.numel() > 10_000:  # cutting at 2 σ leaves 0.8796 of σ
                assert abs(p.std().item() / 0.02 - 0.8796) < 0.02 and abs(p.mean()) < 1e-3, name
        else:
            bound = (6 / sum(p.shape)) ** 0.5
            assert 0.99 * bound < p.abs().max() <= bound, name
            assert abs(p.std().item() / bound - 3**-0.5) < 0.02, name
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert (p == 0).all(), name
        elif "norm" in name:
            assert (p == 1).all(), name


def test_initialize_leaves_no_weight_as_it_was():
    module = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6))
    for p in module.parameters():
        nn.init.constant_(p, 7.0)
    initialize(module, gen())
    assert all((p != 7).all() for p in module.parameters())


def test_a_forward_pass_draws_no_random_numbers():
    model, images = small().train(), pictures(2, 3, 32, 32)
    state = torch.get_rng_state()
    assert torch.equal(model(images), model(images))
    assert torch.equal(torch.get_rng_state(), state)


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 30}, "do not tile"),
        ({"image_size": (32, 36)}, "32 × 36"),
        ({"patch_size": 64}, "do not tile"),
        ({"num_heads": 5}, "multiple of 5 heads"),
        ({"positions": "rotary"}, "'rotary'"),
        ({"in_channels": 0}, "in_channels"),
        ({"depth": 0}, "depth"),
        ({"mlp_ratio": 0.0}, "mlp_ratio"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        VisionTransformer(
            **{"image_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 4, **wrong}
        )


@pytest.mark.parametrize("method", ["forward", "forward_features", "class_attention"])
@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), TypeError, r"images.float\(\) / 255"),
        (torch.zeros(2, 1, 32, 32), ValueError, r"\(B, 3, H, W\)"),
        (torch.zeros(3, 32, 32), ValueError, r"\(B, 3, H, W\)"),
        (torch.zeros(2, 3, 32, 33), ValueError, "multiple of patch_size"),
    ],
)
def test_images_that_the_model_cannot_read_are_refused(method, images, error, message):
    with pytest.raises(error, match=message):
        getattr(small(), method)(images)
