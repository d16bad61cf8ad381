"""Sound and picture: attention equal to torch's, streams that keep apart, and missing ones."""

import itertools
import math

import pytest
import torch
from torch import nn

from dlcourse.datasets import event_factors
from dlcourse.multimodal_fusion import (
    AudioVisualModel,
    BottleneckFusion,
    CrossAttention,
    CrossAttentionFusion,
    FrameTokens,
    JointFusion,
    LateFusion,
    SpectrogramTokens,
    attend,
    mean_of_present,
    modality_dropout,
    time_embedding,
    token_times,
)
from dlcourse.multimodal_fusion.audio_visual import binding
from dlcourse.multimodal_fusion.audio_visual.model import masked_mean

FUSIONS = [LateFusion, CrossAttentionFusion, JointFusion, BottleneckFusion]
EACH = pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: f.__name__)
MEETING = pytest.mark.parametrize("fusion", FUSIONS[1:], ids=lambda f: f.__name__)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Tokens(nn.Module):
    """An encoder that gives its input; ``rate`` tokens a second."""

    def __init__(self, dim=8, rate=4.0):
        super().__init__()
        self.dim, self.rate = dim, rate

    def forward(self, x):
        return x


def make(fusion=CrossAttentionFusion, classes=5, dim=16, **kwargs):
    torch.manual_seed(0)
    model = AudioVisualModel(
        Tokens(8, 4.0), Tokens(6, 2.0), dim, 2, classes, fusion=fusion(dim, 2), **kwargs
    )
    return model.double().eval()


def batch(b=3, ta=7, tv=4):
    return randn(b, ta, 8, seed=1), randn(b, tv, 6, seed=2)


# --- Attention -------------------------------------------------------------------------------


def with_weights_of(ours):
    """torch's module with the weights of ours."""
    dim = ours.query.in_features
    peer = nn.MultiheadAttention(dim, ours.num_heads, batch_first=True, dtype=torch.float64)
    layers = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        peer.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        peer.out_proj.load_state_dict(ours.out.state_dict())
    return peer


SIZES = [(1, 1, 1), (3, 5, 2), (2, 4, 4), (4, 1, 6)]
CASES = list(itertools.product(SIZES, [1, 2, 4], [False, True]))


@pytest.mark.parametrize(("sizes", "heads", "masked"), CASES)
def test_cross_attention_equals_torchs_multihead_attention(sizes, heads, masked):
    b, tx, ty = sizes
    torch.manual_seed(b)
    ours = CrossAttention(8, heads).double()
    x, y = randn(b, tx, 8, seed=1).requires_grad_(), randn(b, ty, 8, seed=2).requires_grad_()
    padding = None
    if masked:
        padding = torch.rand(b, ty, generator=torch.Generator().manual_seed(3)) < 0.5
        padding[:, 0] = False
    expected, weights = with_weights_of(ours)(x, y, y, padding, average_attn_weights=False)
    out, shown = ours.readable(x, y, padding)
    fast = ours(x, y, padding)
    for result in (out, fast):
        assert torch.allclose(result, expected, atol=1e-12)
    assert torch.allclose(shown, weights, atol=1e-12)
    wanted = torch.autograd.grad(expected.square().sum(), (x, y))
    for result in (out, fast):
        found = torch.autograd.grad(result.square().sum(), (x, y), retain_graph=True)
        assert all(torch.allclose(f, w, atol=1e-10) for f, w in zip(found, wanted))


def test_attend_is_a_weighted_mean_written_as_a_loop():
    q, k, v = randn(2, 3, 4, 5, seed=1), randn(2, 3, 6, 5, seed=2), randn(2, 3, 6, 7, seed=3)
    out, weights = attend(q, k, v)
    for b, h, i in itertools.product(range(2), range(3), range(4)):
        scores = [math.exp(q[b, h, i] @ k[b, h, j] / math.sqrt(5)) for j in range(6)]
        row = torch.tensor(scores, dtype=torch.float64) / sum(scores)
        assert torch.allclose(weights[b, h, i], row)
        assert torch.allclose(out[b, h, i], row @ v[b, h])


def test_where_all_keys_are_padding_the_answer_is_zero_and_the_gradient_finite():
    torch.manual_seed(0)
    ours = CrossAttention(8, 2).double()
    x, y = randn(2, 3, 8), randn(2, 4, 8, seed=1).requires_grad_()
    padding = torch.tensor([[True] * 4, [False] * 4])
    for out in (ours(x, y, padding), ours.readable(x, y, padding)[0]):
        assert torch.allclose(out[0], ours.out.bias.expand(3, 8))
        (grad,) = torch.autograd.grad(out.sum(), y)
        assert grad.isfinite().all() and (grad[0] == 0).all() and (grad[1] != 0).any()


@pytest.mark.parametrize(
    ("x", "y", "padding", "message"),
    [
        ((2, 3, 8), (3, 3, 8), None, "one batch size"),
        ((2, 8), (2, 3, 8), None, "two sequences"),
        ((2, 3, 8), (2, 4, 8), torch.zeros(2, 3, dtype=torch.bool), "padding must be bool"),
        ((2, 3, 8), (2, 4, 8), torch.zeros(2, 4), "padding must be bool"),
    ],
)
def test_attention_refuses_shapes_that_do_not_belong_together(x, y, padding, message):
    with pytest.raises(ValueError, match=message):
        CrossAttention(8, 2)(torch.zeros(x), torch.zeros(y), padding)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="num_heads must divide dim"):
        CrossAttention(10, 4)


# --- Time ------------------------------------------------------------------------------------


def test_tokens_at_the_same_time_have_the_same_embedding_whatever_their_rate():
    slow, fast = token_times(4, 4.0), token_times(12, 12.0)
    assert torch.allclose(slow, fast[1::3])  # the middle of a slow token is that of a fast one
    assert torch.allclose(time_embedding(slow, 16), time_embedding(fast, 16)[1::3], atol=1e-5)


def test_the_embeddings_product_falls_with_the_distance_in_time():
    e = time_embedding(token_times(64, 64.0), 64)
    product = e @ e.T / 32
    assert torch.allclose(product.diagonal(), torch.ones(64), atol=1e-5)
    assert (product[0, 1:] < 1).all() and product[0, 1] > product[0, 4] > product[0, 16]


def test_without_a_rate_tokens_are_spread_over_one_second():
    assert token_times(4, None).tolist() == [0.125, 0.375, 0.625, 0.875]


@pytest.mark.parametrize(
    "call",
    [
        lambda: token_times(4, 0.0),
        lambda: time_embedding(torch.zeros(2), 5),
        lambda: time_embedding(torch.zeros(2), 8, shortest=2, longest=1),
    ],
)
def test_impossible_times_are_refused(call):
    with pytest.raises(ValueError, match=r"rate|dim must be even|shortest"):
        call()


# --- The model -------------------------------------------------------------------------------


@EACH
def test_no_example_of_a_batch_sees_another(fusion):
    model, (audio, video) = make(fusion), batch()
    before = model(audio, video)
    audio[1], video[1] = randn(7, 8, seed=9), randn(4, 6, seed=10)
    after = model(audio, video)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])


@EACH
def test_an_example_by_itself_has_the_logits_that_it_has_in_a_batch(fusion):
    model, (audio, video) = make(fusion), batch()
    alone = torch.cat([model(audio[i : i + 1], video[i : i + 1]) for i in range(3)])
    assert torch.allclose(model(audio, video), alone, atol=1e-12)


@EACH
def test_padding_changes_nothing_whatever_it_holds(fusion):
    model, (audio, video) = make(fusion), batch()
    longer_a = torch.cat([audio, torch.full((3, 2, 8), torch.nan)], 1)
    longer_v = torch.cat([video, torch.full((3, 5, 6), 1e6)], 1)
    a_pad = torch.arange(9).expand(3, -1) >= 7
    v_pad = torch.arange(9).expand(3, -1) >= 4
    padded = model(longer_a, longer_v, audio_padding=a_pad, video_padding=v_pad)
    assert torch.allclose(padded, model(audio, video), atol=1e-12)


@EACH
def test_a_missing_modality_is_none_or_a_mask_with_the_same_result(fusion):
    model, (audio, video) = make(fusion), batch()
    gone = torch.ones(3, dtype=torch.bool)
    assert torch.allclose(model(audio, None), model(audio, video, video_missing=gone), atol=1e-12)
    assert torch.allclose(model(None, video), model(audio, video, audio_missing=gone), atol=1e-12)


@EACH
def test_what_a_missing_modality_holds_does_not_matter_and_the_others_keep_theirs(fusion):
    model, (audio, video) = make(fusion), batch()
    gone = torch.tensor([False, True, False])
    expected = model(audio, video)
    expected[1] = model(audio[1:2], None)[0]
    video[1] = torch.nan
    assert torch.allclose(model(audio, video, video_missing=gone), expected, atol=1e-12)


@MEETING
def test_where_streams_meet_the_logits_of_one_depend_on_the_other(fusion):
    model, (audio, video) = make(fusion), batch()
    a, a_pad = model._stream("audio", audio, None, torch.zeros(3, dtype=torch.bool))
    pads = a_pad, torch.zeros(3, 5, dtype=torch.bool)
    out = [model.fusion(a, randn(3, 5, 16, seed=s), *pads) for s in (4, 5)]
    assert not torch.allclose(out[0][0], out[1][0], atol=1e-6)


def test_late_fusion_is_the_mean_of_two_separate_classifiers():
    model, (audio, video) = make(LateFusion), batch()
    mean = (model(audio, None) + model(None, video)) / 2
    assert torch.allclose(model(audio, video), mean, atol=1e-12)


def test_in_late_fusion_no_pair_of_inputs_interacts():
    """f(a, v) − f(a', v) − f(a, v') + f(a', v') = 0: the sum of a function of each."""
    model, (audio, video) = make(LateFusion), batch()
    f = [model(a, v) for a in (audio, audio.flip(0)) for v in (video, video.flip(0))]
    assert torch.allclose(f[0] - f[1] - f[2] + f[3], torch.zeros(3, 5).double(), atol=1e-12)


def test_a_bottleneck_is_the_only_way_between_the_streams():
    torch.manual_seed(0)
    fusion = BottleneckFusion(16, 2, depth=1, fuse_depth=1).double()
    pads = torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool)
    audio = randn(2, 3, 16)
    first, second = (fusion(audio, randn(2, 4, 16, seed=s), *pads)[0] for s in (1, 2))
    assert torch.equal(first, second)  # one layer: the sound reads what the tokens held before


def test_bottleneck_update_is_the_papers():
    torch.manual_seed(0)
    fusion = BottleneckFusion(16, 2, depth=2, fuse_depth=2, bottlenecks=3).double()
    audio, video = randn(2, 5, 16), randn(2, 4, 16, seed=1)
    pads = torch.zeros(2, 5, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool)
    found = fusion(audio, video, *pads)
    shared = fusion.bottleneck[None].repeat(2, 1, 1)
    for layer in range(2):
        new = []
        for z, blocks in ((audio, fusion.audio_with), (video, fusion.video_with)):
            new.append(blocks[layer](torch.cat([z, shared], 1)))
        audio, video = new[0][:, :5], new[1][:, :4]
        shared = torch.stack([new[0][:, 5:], new[1][:, 4:]]).mean(0)
    assert torch.allclose(found[0], audio, atol=1e-12)
    assert torch.allclose(found[1], video, atol=1e-12)


def test_both_streams_read_the_state_before_the_layer():
    torch.manual_seed(0)
    fusion = CrossAttentionFusion(16, 2, depth=1, fuse_depth=1).double()
    audio, video = randn(2, 5, 16), randn(2, 4, 16, seed=1)
    pads = torch.zeros(2, 5, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool)
    a, v = fusion(audio, video, *pads)
    assert torch.allclose(a, fusion.audio_asks[0](audio, video))
    assert torch.allclose(v, fusion.video_asks[0](video, audio))


def test_attention_maps_are_the_weights_of_the_forward_pass():
    model, (audio, video) = make(), batch()
    maps = model.attention_maps(audio, video)
    assert [tuple(m.shape) for m in maps[0]] == [(3, 2, 7, 4), (3, 2, 4, 7)] and len(maps) == 2
    assert all((m >= 0).all() and (m.sum(-1) < 1).all() for m in maps[0])  # the rest: first token
    # The first layer's weights by hand, from the streams as they enter it.
    none = torch.zeros(3, dtype=torch.bool)
    a, a_pad = model._stream("audio", audio, None, none)
    v, v_pad = model._stream("video", video, None, none)
    a, v = LateFusion.forward(model.fusion, a, v, a_pad, v_pad)
    block = model.fusion.audio_asks[0]
    _, weights = with_weights_of(block.attention)(
        block.norm_x(a), block.norm_y(v), block.norm_y(v), average_attn_weights=False
    )
    assert torch.allclose(maps[0][0], weights[..., 1:, 1:], atol=1e-12)


@EACH
def test_every_parameter_gets_a_gradient(fusion):
    torch.manual_seed(0)
    model = make(fusion)
    model(*batch()).square().sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # Keys have a bias that the softmax takes away.
    assert [n for n in idle if not n.endswith("key.bias")] == []


@EACH
def test_in_bfloat16_under_autocast_the_logits_are_near_those_in_float32(fusion):
    model, (audio, video) = make(fusion).float(), (x.float() for x in batch())
    exact = model(audio, video)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(audio, video)
    assert torch.allclose(rough.float(), exact, atol=0.05)


def test_encoders_give_the_tokens_and_rates_that_they_say():
    audio, video = SpectrogramTokens(32, 24), FrameTokens(16, 24)
    assert audio(torch.zeros(2, 32, 65)).shape == (2, 32, 24) and audio.rate == 32
    assert video(torch.zeros(2, 9, 16, 16)).shape == (2, 9, 24) and video.rate == 16
    model = AudioVisualModel(audio, video, 24, 4, 3)
    assert model(torch.zeros(2, 32, 65), torch.zeros(2, 9, 16, 16)).shape == (2, 3)


def test_a_picture_is_encoded_by_itself():
    torch.manual_seed(0)
    encoder, frames = FrameTokens(16, 24), torch.rand(1, 5, 16, 16)
    shuffled = frames[:, [4, 2, 0, 1, 3]]
    assert torch.allclose(encoder(shuffled), encoder(frames)[:, [4, 2, 0, 1, 3]], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, a, v: m(None, None), "both modalities"),
        (lambda m, a, v: m(a, v[:2]), "3 sounds, but 2 films"),
        (lambda m, a, v: m(a[..., :5], v), "attribute `dim`"),
        (lambda m, a, v: m(a, v, audio_padding=torch.zeros(3, 2) > 0), "audio_padding"),
        (lambda m, a, v: m(a, v, video_missing=torch.zeros(3)), "video_missing"),
        (lambda m, a, v: m(a, None, audio_missing=torch.ones(3) > 0), "neither sound nor picture"),
        (lambda m, a, v: SpectrogramTokens()(a), "spectrogram"),
        (lambda m, a, v: FrameTokens()(v), "pictures"),
        (lambda m, a, v: FrameTokens(size=10), "multiple of 4"),
        (lambda m, a, v: make(modality_dropout=1.5), "modality_dropout"),
        (lambda m, a, v: BottleneckFusion(8, 2, bottlenecks=0), "at least one"),
        (lambda m, a, v: JointFusion(8, 2, depth=1, fuse_depth=2), "fuse_depth"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call(make(), *batch())


# --- Missing modalities ----------------------------------------------------------------------


def test_modality_dropout_takes_each_with_half_the_probability_and_never_both():
    a, v = modality_dropout(20_000, 0.4, generator=torch.Generator().manual_seed(0))
    assert not (a & v).any()
    assert a.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert v.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert not torch.stack(modality_dropout(50, 0.0)).any()
    assert (a := modality_dropout(50, 1.0))[0].logical_xor(a[1]).all()


def test_modality_dropout_acts_in_training_only_and_on_whole_examples():
    model, (audio, video) = make(modality_dropout=1.0), batch()
    whole, only_a, only_v = model(audio, video), model(audio, None), model(None, video)
    torch.manual_seed(0)
    model.train()
    trained = model(audio, video)
    for row in range(3):
        assert any(torch.allclose(trained[row], one[row]) for one in (only_a, only_v))
    assert torch.equal(model.eval()(audio, video), whole)


def test_modality_dropout_takes_nothing_from_an_example_that_lacks_one():
    model, (audio, video) = make(modality_dropout=1.0), batch()
    expected = model(audio, None)
    assert torch.allclose(model.train()(audio, None), expected)


def test_the_mean_is_over_what_is_there_and_nan_elsewhere_does_not_matter():
    a = torch.tensor([[1.0], [torch.nan], [3.0], [1.0]])
    v = torch.tensor([[3.0], [5.0], [7.0], [1.0]])
    a_gone, v_gone = torch.tensor([0, 1, 0, 1]).bool(), torch.tensor([0, 0, 1, 1]).bool()
    assert mean_of_present(a, v, a_gone, v_gone).tolist() == [[2.0], [5.0], [3.0], [0.0]]


def test_the_masked_mean_is_over_the_tokens_that_are_there():
    x = torch.tensor([[[1.0], [3.0], [torch.nan]]])
    assert masked_mean(x, torch.tensor([[False, False, True]])).item() == 2
    assert masked_mean(x, torch.tensor([[True, True, True]])).item() == 0


# --- What can be known without binding -------------------------------------------------------


def test_the_ceilings_are_the_shares_found_by_drawing_clips():
    """Over clips with the same sounds and pictures, how often is each pair there?"""
    f = event_factors(200_000, torch.Generator().manual_seed(0))
    target = binding.counts(f)
    heard, seen, _ = target
    key = (heard @ torch.tensor([1, 4, 16, 64])) * 256 + seen @ torch.tensor([1, 4, 16, 64])
    from dlcourse.datasets import pair_targets

    pairs, expected = pair_targets(f), binding.without_times(f)
    common = key.unique(return_counts=True)
    for k in common[0][common[1].argsort(descending=True)[:40]]:
        rows = key == k
        error = (pairs[rows].mean(0) - expected[rows][0]).abs()
        assert (error < 4 * 0.5 / math.sqrt(rows.sum())).all()
    for ceiling, by in ((binding.from_sounds(f), heard), (binding.from_pictures(f), seen)):
        for k in range(4):
            column = slice(4 * k, 4 * k + 4) if by is heard else slice(k, None, 4)
            rows = by[:, k] == 1
            assert torch.allclose(
                pairs[rows][:, column].mean(0), ceiling[rows][:, column].mean(0), atol=0.02
            )


def test_binding_accuracy_is_one_for_the_truth_a_half_without_times_and_zero_exchanged():
    from dlcourse.datasets import pair_targets

    f = event_factors(3000, torch.Generator().manual_seed(0))
    assert binding.binding_accuracy(pair_targets(f), f) == 1
    assert binding.binding_accuracy(binding.without_times(f), f) == 0.5
    two = f.present.sum(1) == 2
    swapped = f._replace(picture=torch.where(two[:, None], f.picture[:, [1, 0, 2]], f.picture))
    assert binding.binding_accuracy(pair_targets(swapped), f) == 0


# --- What the document's listing does --------------------------------------------------------


class Listing(nn.Module):
    """The listing's class, its comments left out."""

    def __init__(self, audio_encoder, video_encoder, fusion_dim=512, **kwargs):
        super().__init__()
        self.audio_encoder, self.video_encoder = audio_encoder, video_encoder
        self.fusion = nn.MultiheadAttention(fusion_dim, num_heads=8, **kwargs)
        self.classifier = nn.Linear(fusion_dim, 1000)

    def forward(self, audio, video):
        audio_features = self.audio_encoder(audio)
        video_features = self.video_encoder(video)
        fused, _ = self.fusion(audio_features, video_features, video_features)
        return self.classifier(fused.mean(dim=1))


def listing(**kwargs):
    torch.manual_seed(0)
    return Listing(nn.Identity(), nn.Identity(), fusion_dim=64, **kwargs).double().eval()


def test_listing_attends_over_the_batch():
    model, audio, video = listing(), randn(3, 5, 64, seed=1), randn(3, 5, 64, seed=2)
    before = model(audio, video)
    video[1] += 1
    assert (model(audio, video)[0] - before[0]).abs().max() > 0.1  # video 1, output 0


def test_listing_fails_where_the_streams_have_different_lengths():
    with pytest.raises((RuntimeError, AssertionError)):
        listing()(randn(3, 7, 64), randn(3, 4, 64))


def test_listing_with_the_batch_first_forgets_the_sound_where_the_picture_stands_still():
    model, video = listing(batch_first=True), randn(1, 1, 64).expand(2, 5, 64)
    first, second = (model(randn(2, 5, 64, seed=s), video) for s in (1, 2))
    assert torch.allclose(first, second, atol=1e-12)  # the sound makes weights, no more


def test_listing_with_the_batch_first_does_not_know_when_anything_happens():
    model = listing(batch_first=True)
    audio, video = randn(2, 5, 64, seed=1), randn(2, 5, 64, seed=2)
    later = video.flip(1)
    assert torch.allclose(model(audio, video), model(audio, later), atol=1e-12)


def test_ours_knows_when_things_happen():
    model, (audio, video) = make(), batch()
    assert (model(audio, video) - model(audio, video.flip(1))).abs().max() > 1e-4


def test_listing_with_the_batch_first_reads_padding():
    model = listing(batch_first=True)
    audio, video = randn(2, 5, 64, seed=1), randn(2, 5, 64, seed=2)
    padded = torch.cat([video, torch.zeros(2, 3, 64).double()], 1)
    assert (model(audio, padded) - model(audio, video)).abs().max() > 0.05


def test_listing_has_no_answer_without_sound_or_without_pictures():
    model, x = listing(batch_first=True), randn(2, 5, 64)
    with pytest.raises((TypeError, AttributeError)):
        model(x, None)
    with pytest.raises((TypeError, AttributeError)):
        model(None, x)


def test_listing_lets_only_the_sound_ask():
    """Nothing of the video's own sequence is kept: one output token for each of the audio's."""
    model = listing(batch_first=True)
    video, many = randn(2, 5, 64, seed=2), 9
    fused, _ = model.fusion(randn(2, many, 64), video, video)
    assert fused.shape[1] == many
    padding = (torch.zeros(2, n) > 0 for n in (many, 5))
    a, v = make().fusion(randn(2, many, 16), randn(2, 5, 16), *padding)
    assert (a.shape[1], v.shape[1]) == (many, 5)


def test_listing_wants_512_wide_features_and_gives_1000_classes():
    model = Listing(nn.Identity(), nn.Identity(), batch_first=True)
    with pytest.raises((RuntimeError, AssertionError)):
        model(torch.zeros(2, 5, 128), torch.zeros(2, 5, 128))
    assert model(torch.zeros(2, 5, 512), torch.zeros(2, 5, 512)).shape == (2, 1000)
