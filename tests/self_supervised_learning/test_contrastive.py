"""NT-Xent and SimCLR: equal to independent formulations, and what the loss does to its views."""

import math
import sys

import cloudpickle
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist, pdist
from scipy.special import logsumexp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dlcourse.datasets import shapes
from dlcourse.large_scale_training import distributed, launch
from dlcourse.self_supervised_learning import (
    BatchViews,
    ConvNet,
    SimCLR,
    VisionTransformer,
    alignment,
    gather_across_processes,
    nt_xent,
    nt_xent_reference,
    pretrain,
    uniformity,
)

# The ranks get this file's code by value, and need not import the libraries compared with.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SEEDS = pytest.mark.parametrize("seed", range(8))
TEMPERATURES = (0.05, 0.2, 0.5, 1.0, 3.0)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def pairs(seed, b=6, d=5, dtype=torch.float64):
    """Two batches of views, the second near the first, with lengths of very different size."""
    g = seeded(seed)
    z1 = torch.randn(b, d, generator=g, dtype=torch.float64)
    z2 = z1 + torch.randn(b, d, generator=g, dtype=torch.float64)
    lengths = 10 ** (4 * torch.rand(2, b, 1, generator=g, dtype=torch.float64) - 2)
    return (z1 * lengths[0]).to(dtype), (z2 * lengths[1]).to(dtype)


def with_gradient(function, *tensors):
    """Value of a function, and its gradient for each argument."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    value = function(*leaves)
    return value, torch.autograd.grad(value, leaves)


# --- The loss is the equation ----------------------------------------------------------------


def by_scipy(z1, z2, temperature):
    """Chen et al. (2020), equation 1, from scipy's distances and logarithms, in float64."""
    z = np.concatenate([z1, z2]).astype(np.float64)
    similarity = 1 - cdist(z, z, metric="cosine")
    n = len(z)
    losses = []
    for i in range(n):
        others = np.delete(similarity[i], i) / temperature
        losses.append(logsumexp(others) - similarity[i, (i + n // 2) % n] / temperature)
    return np.mean(losses)


@SEEDS
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_nt_xent_is_the_equation(seed, temperature):
    g = seeded(100 + seed)
    b, d = (int(n) for n in torch.randint(2, 12, (2,), generator=g))
    z1, z2 = pairs(seed, b, d)
    expected = by_scipy(z1.numpy(), z2.numpy(), temperature)
    assert nt_xent(z1, z2, temperature).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert nt_xent_reference(z1, z2, temperature).item() == pytest.approx(expected, rel=1e-9)


@SEEDS
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_nt_xent_and_its_gradients_equal_the_double_loop(seed, temperature):
    z = pairs(seed)
    t = torch.tensor(temperature, dtype=torch.float64)
    value, gradients = with_gradient(nt_xent, *z, t)
    expected, expected_gradients = with_gradient(nt_xent_reference, *z, t)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-10)


@SEEDS
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_nt_xent_and_its_gradients_equal_lightlys(seed, temperature):
    from lightly.loss import NTXentLoss  # after dlcourse, which mends torchvision's import

    z = pairs(seed, b=9, d=16)
    value, gradients = with_gradient(lambda a, b: nt_xent(a, b, temperature), *z)
    expected, expected_gradients = with_gradient(NTXentLoss(temperature), *z)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_temperature_is_a_half_by_default():
    z1, z2 = pairs(0)
    for function in (nt_xent, nt_xent_reference):
        assert torch.equal(function(z1, z2), function(z1, z2, 0.5))
    assert SimCLR(ConvNet()).temperature == 0.5


# --- Values that are known -------------------------------------------------------------------


@pytest.mark.parametrize("b", [2, 3, 64])
@pytest.mark.parametrize("temperature", [0.01, 0.5, 10.0])
def test_a_collapsed_encoder_guesses_among_all_others(b, temperature):
    z = torch.ones(b, 4, dtype=torch.float64)
    assert nt_xent(z, z, temperature).item() == pytest.approx(math.log(2 * b - 1), rel=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_orthogonal_images_with_equal_views(temperature):
    z = torch.eye(7, dtype=torch.float64)
    expected = math.log(1 + 12 * math.exp(-1 / temperature))  # 2B − 2 = 12 negatives, at cosine 0
    assert nt_xent(z, z, temperature).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_no_batch_does_better_than_the_corners_of_a_simplex(temperature):
    """The least loss has equal views, and all images at equal distance: cosine −1/(B − 1)."""
    b = 5
    corners = torch.eye(b, dtype=torch.float64) - 1 / b
    least = math.log(1 + (2 * b - 2) * math.exp((-1 / (b - 1) - 1) / temperature))
    assert nt_xent(corners, corners, temperature).item() == pytest.approx(least, rel=1e-12)
    for seed in range(50):
        z1, z2 = pairs(seed, b, 8)
        assert nt_xent(z1, z2, temperature) > least
        assert nt_xent(z1, z1, temperature) > least


def test_two_opposite_images_reach_the_least_loss_of_all():
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert nt_xent(z, z, 0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(-4)), rel=1e-12)


@SEEDS
def test_a_high_temperature_sees_no_difference(seed):
    assert nt_xent(*pairs(seed), 1e9).item() == pytest.approx(math.log(11), abs=1e-8)


@SEEDS
def test_a_low_temperature_leaves_the_hardest_negative(seed):
    """τ · loss → mean over anchors of how far the best other one is above the partner, or 0."""
    z1, z2 = pairs(seed)
    similarity = 1 - cdist(torch.cat([z1, z2]), torch.cat([z1, z2]), metric="cosine")
    np.fill_diagonal(similarity, -np.inf)
    partner = similarity[np.arange(12), (np.arange(12) + 6) % 12]
    hinge = (similarity.max(1) - partner).mean()
    assert 1e-6 * nt_xent(z1, z2, 1e-6).item() == pytest.approx(hinge, abs=1e-5)


def test_both_views_of_the_other_images_are_negatives():
    """Each of the 2B − 2 other views, and nothing else, takes part in an anchor's loss."""
    z1, z2 = pairs(3, b=4)

    def share(i, k):
        """By how much similarity s_ik enters: the softmax of anchor i."""
        z = F.normalize(torch.cat([z1, z2]), dim=1)
        row = (z[i] @ z.T / 0.5).clone()
        row[i] = -math.inf
        return row.softmax(0)[k]

    total = sum(-share(i, (i + 4) % 8).log() for i in range(8)) / 8
    assert nt_xent(z1, z2).item() == pytest.approx(total.item(), rel=1e-12)
    assert all(share(0, k) > 0 for k in range(1, 8))


# --- What it does not depend on --------------------------------------------------------------


@SEEDS
def test_only_directions_count(seed):
    z1, z2 = pairs(seed)
    scale = 10 ** torch.randn(2, 6, 1, generator=seeded(seed), dtype=torch.float64)
    expected = nt_xent(z1, z2, 0.2)
    torch.testing.assert_close(nt_xent(z1 * scale[0], z2 * scale[1], 0.2), expected)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=seeded(seed), dtype=torch.float64)).Q
    torch.testing.assert_close(nt_xent(z1 @ turn, z2 @ turn, 0.2), expected)


@SEEDS
def test_the_order_of_images_and_of_views_does_not_matter_but_the_pairing_does(seed):
    z1, z2 = pairs(seed)
    expected = nt_xent(z1, z2, 0.2)
    order = torch.randperm(6, generator=seeded(seed))
    torch.testing.assert_close(nt_xent(z1[order], z2[order], 0.2), expected)
    torch.testing.assert_close(nt_xent(z2, z1, 0.2), expected)
    one = torch.arange(6) == 0
    crossed = [torch.where(one[:, None], b, a) for a, b in ((z1, z2), (z2, z1))]
    torch.testing.assert_close(nt_xent(*crossed, 0.2), expected)
    assert abs(nt_xent(z1, z2.roll(1, 0), 0.2) - expected) > 1e-2


# --- Gradients -------------------------------------------------------------------------------


@SEEDS
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_gradient_pulls_the_partner_and_pushes_others_by_their_softmax(seed, temperature):
    z1, z2 = pairs(seed)
    n, z = 12, torch.cat([z1, z2])
    u = F.normalize(z, dim=1)
    p = (u @ u.T / temperature).masked_fill(torch.eye(n, dtype=torch.bool), -math.inf).softmax(1)
    partner = torch.eye(n, dtype=torch.float64).roll(6, 0)
    by_similarity = (p - partner) / (n * temperature)  # ∂L/∂s_ik: negative for the partner alone
    assert (by_similarity[partner.bool()] <= 0).all()
    assert (by_similarity[~partner.bool()] >= 0).all()
    # s_ik = u_i · u_k, and u = z / ‖z‖, which takes what points along u out of the gradient
    by_direction = by_similarity @ u + by_similarity.T @ u
    along = (by_direction * u).sum(1, keepdim=True)
    expected = (by_direction - along * u) / z.norm(dim=1, keepdim=True)
    _, gradients = with_gradient(lambda a, b: nt_xent(a, b, temperature), z1, z2)
    torch.testing.assert_close(torch.cat(gradients), expected, rtol=1e-9, atol=1e-12)


@SEEDS
def test_the_gradient_is_tangent_to_the_sphere_and_shrinks_with_the_length(seed):
    z1, z2 = pairs(seed)
    _, (g1, g2) = with_gradient(nt_xent, z1, z2)
    cosine = F.cosine_similarity(torch.cat([g1, g2]), torch.cat([z1, z2]), dim=1)
    assert cosine.abs().max() < 1e-9
    _, (longer, _) = with_gradient(nt_xent, 10 * z1, z2)
    torch.testing.assert_close(longer, g1 / 10)


@SEEDS
def test_a_step_against_the_gradient_brings_partners_together(seed):
    z1, z2 = (F.normalize(z, dim=1) for z in pairs(seed))
    before, (g1, g2) = with_gradient(lambda a, b: nt_xent(a, b, 0.5), z1, z2)
    after = z1 - 0.1 * g1, z2 - 0.1 * g2
    assert nt_xent(*after, 0.5) < before
    assert F.cosine_similarity(*after).mean() > F.cosine_similarity(z1, z2).mean()


@SEEDS
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_gradient_of_the_temperature_compares_the_partner_with_the_mean(seed, temperature):
    """∂L/∂τ = mean of (s_partner − Σ p_k s_k) / τ²."""
    z1, z2 = pairs(seed)
    t = torch.tensor(temperature, dtype=torch.float64)
    _, (_, _, by_t) = with_gradient(nt_xent, z1, z2, t)
    u = F.normalize(torch.cat([z1, z2]), dim=1)
    s = u @ u.T
    p = (s / temperature).masked_fill(torch.eye(12, dtype=torch.bool), -math.inf).softmax(1)
    partner = s[torch.arange(12), torch.arange(12).roll(6)]
    expected = ((partner - (p * s).sum(1)) / temperature**2).mean()
    torch.testing.assert_close(by_t, expected, rtol=1e-9, atol=1e-12)
    h = 1e-6 * temperature
    slope = (nt_xent(z1, z2, temperature + h) - nt_xent(z1, z2, temperature - h)) / (2 * h)
    assert by_t.item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-6)


def test_the_gradient_passes_a_numerical_check():
    leaves = [z.requires_grad_() for z in pairs(0, b=3, d=4)]
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.3), leaves)


def test_a_collapsed_encoder_gets_no_gradient():
    """All points equal is a place where the loss is flat: noise alone leads away from it."""
    z = torch.ones(5, 4, dtype=torch.float64)
    _, gradients = with_gradient(nt_xent, z, z)
    assert max(g.abs().max() for g in gradients) < 1e-12
    apart = torch.randn(2, 5, 4, generator=seeded(0), dtype=torch.float64)
    _, gradients = with_gradient(nt_xent, z + 0.3 * apart[0], z + 0.3 * apart[1])
    assert max(g.abs().max() for g in gradients) > 1e-2


# --- Numbers of few bits ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_half_precision_views_are_compared_in_float32(dtype, temperature):
    z1, z2 = (F.normalize(z, dim=1).to(dtype) for z in pairs(1, b=32, d=16))
    value = nt_xent(z1, z2, temperature)
    assert value.dtype == torch.float32
    assert torch.equal(value, nt_xent(z1.float(), z2.float(), temperature))


def test_long_half_precision_views_do_not_overflow():
    z1, z2 = (300 * F.normalize(z, dim=1).half() for z in pairs(1))
    assert (z1.square().sum(1)).isinf().any()  # 300² is more than float16 can hold
    expected = nt_xent(z1.double(), z2.double())
    assert nt_xent(z1, z2).item() == pytest.approx(expected.item(), rel=1e-5)


def test_autocast_does_not_reach_the_similarities():
    z1, z2 = pairs(2, b=32, d=16, dtype=torch.float32)
    expected = nt_xent(z1, z2, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(z1, z2, 0.05), expected)
        u = F.normalize(torch.cat([z1, z2]), dim=1)
        assert (u @ u.T).dtype == torch.bfloat16  # which is what would have happened


def test_a_small_temperature_overflows_the_double_loop_but_not_the_loss():
    z1, z2 = pairs(0, dtype=torch.float32)
    assert not nt_xent_reference(z1, z2, 0.001).isfinite()
    value, gradients = with_gradient(lambda a, b: nt_xent(a, b, 0.001), z1, z2)
    expected = by_scipy(z1.numpy(), z2.numpy(), 0.001)
    assert value.item() == pytest.approx(expected, rel=1e-3)
    assert all(g.isfinite().all() for g in gradients)


def test_float64_stays_float64():
    assert nt_xent(*pairs(0)).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_alignment_and_uniformity_of_half_precision_views_sum_in_float32(dtype):
    z1, z2 = (z.to(dtype) for z in (300 * F.normalize(z, dim=1) for z in pairs(1, b=64)))
    for measure in (lambda a, b: alignment(a, b), lambda a, b: uniformity(a)):
        value = measure(z1, z2)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, measure(z1.float(), z2.float()))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(measure(z1, z2), value)


def test_a_row_of_zeros_has_no_direction_and_a_gradient_of_the_usual_size():
    z1, z2 = pairs(0)
    z1[2] = 0
    value, (gradient, _) = with_gradient(lambda a, b: nt_xent(a, b, 0.5), z1, z2)
    assert gradient.isfinite().all() and gradient[2].abs().max() < 1
    near, _ = with_gradient(lambda a, b: nt_xent(a, b, 0.5), z1 + 1e-13, z2)
    torch.testing.assert_close(near, value)
    for measure in (lambda z: alignment(z, z2), uniformity):
        _, (gradient,) = with_gradient(measure, z1)
        assert gradient.isfinite().all() and gradient[2].abs().max() < 10


# --- Bad input -------------------------------------------------------------------------------

LOSSES = pytest.mark.parametrize("loss", [nt_xent, nt_xent_reference, alignment])


@LOSSES
def test_a_batch_of_one_is_refused(loss):
    with pytest.raises(ValueError, match="other images to contrast with, got a batch of 1"):
        loss(torch.ones(1, 4), torch.ones(1, 4))


@LOSSES
@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,))])
def test_views_of_other_shapes_are_refused(loss, shapes):
    with pytest.raises(ValueError, match="row i of both from image i"):
        loss(*map(torch.ones, shapes))


@LOSSES
def test_integer_views_are_refused(loss):
    whole, real = torch.ones(4, 3, dtype=torch.int64), torch.ones(4, 3)
    for z in ((whole, real), (real, whole)):
        with pytest.raises(TypeError, match="floating point, got torch.int64"):
            loss(*z)


@pytest.mark.parametrize("loss", [nt_xent, nt_xent_reference])
@pytest.mark.parametrize("temperature", [0.0, -0.5, math.nan, torch.tensor(0.0)])
def test_a_temperature_that_is_not_positive_is_refused(loss, temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        loss(*pairs(0), temperature)


# --- Alignment and uniformity ----------------------------------------------------------------


@SEEDS
def test_alignment_and_uniformity_are_their_equations(seed):
    z1, z2 = pairs(seed, b=9)
    u1, u2 = (F.normalize(z, dim=1).numpy() for z in (z1, z2))
    for alpha in (1.0, 2.0, 3.0):
        expected = np.mean(np.linalg.norm(u1 - u2, axis=1) ** alpha)
        assert alignment(z1, z2, alpha).item() == pytest.approx(expected, rel=1e-12)
    for t in (0.5, 2.0, 5.0):
        expected = np.log(np.mean(np.exp(-t * pdist(u1) ** 2)))
        assert uniformity(z1, t).item() == pytest.approx(expected, rel=1e-9)


def test_alignment_and_uniformity_of_known_places():
    axes = torch.eye(4, dtype=torch.float64)
    assert alignment(axes, 3 * axes) == 0
    assert alignment(axes, -axes).item() == pytest.approx(4)
    assert alignment(axes, axes.roll(1, 0)).item() == pytest.approx(2)
    assert uniformity(axes).item() == pytest.approx(-4)
    assert uniformity(torch.ones(4, 3)).item() == pytest.approx(0, abs=1e-6)


def test_uniform_points_on_a_large_sphere_come_near_the_least():
    z = torch.randn(400, 256, generator=seeded(0))
    assert uniformity(z).item() == pytest.approx(-4, abs=0.05)
    assert uniformity(z + 3) > -1  # a cap of it


@SEEDS
def test_with_many_images_the_loss_is_alignment_plus_spread(seed):
    """Wang and Isola (2020), theorem 1: loss − log(2B − 2) → −E s/τ + E log E exp(s/τ)."""
    g, temperature, b = seeded(seed), 0.5, 1500
    z1 = torch.randn(b, 3, generator=g)
    z2 = z1 + 0.3 * torch.randn(b, 3, generator=g)
    u1, u2, others = (F.normalize(z, dim=1) for z in (z1, z2, torch.randn(4000, 3, generator=g)))
    pull = -((2 - (u1 - u2).square().sum(1)) / 2 / temperature).mean()
    push = (torch.logsumexp(u1 @ others.T / temperature, 1) - math.log(4000)).mean()
    got = nt_xent(z1, z2, temperature) - math.log(2 * b - 2)
    assert got.item() == pytest.approx((pull + push).item(), abs=0.03)


def test_bad_exponents_are_refused():
    with pytest.raises(ValueError, match="alpha must be positive, got 0"):
        alignment(*pairs(0), 0)
    with pytest.raises(ValueError, match="t must be positive, got -1"):
        uniformity(pairs(0)[0], -1)
    with pytest.raises(ValueError, match="got a batch of 1"):
        uniformity(torch.ones(1, 3))


# --- The encoder and the model ---------------------------------------------------------------


def images(seed, n=6, size=8):
    return torch.rand(n, 3, size, size, generator=seeded(seed))


def model(seed=0, **arguments):
    g = seeded(seed)
    return SimCLR(ConvNet(widths=(4, 8), generator=g), 5, generator=g, **arguments)


def test_the_encoder_averages_maps_that_halve():
    net = ConvNet(widths=(4, 6, 10))
    assert net.embed_dim == 10
    assert net.layers(images(0, size=12)).shape == (6, 10, 3, 3)
    assert torch.allclose(net.eval()(images(0)), net.layers(images(0)).mean((2, 3)), atol=1e-6)
    assert ConvNet(in_channels=1, widths=(3,))(images(0)[:, :1]).shape == (6, 3)


def test_a_generator_decides_all_weights_whatever_torchs_own_does():
    def weights(seed):
        return dict(model(seed).named_parameters())

    one = weights(0)
    torch.rand(5)  # moves torch's global generator on
    same, other = weights(0), weights(1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    drawn = [n for n, p in one.items() if p.dim() > 1]
    assert len(drawn) == 4
    assert not any(torch.equal(one[n], other[n]) for n in drawn)
    convolution = ConvNet(widths=(64, 128), generator=seeded(0)).layers[3]
    assert convolution.weight.var().item() == pytest.approx(2 / (9 * 64), rel=0.05)


def test_bad_images_and_sizes_are_refused():
    with pytest.raises(TypeError, match="floating point"):
        ConvNet()(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        ConvNet()(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="widths >= 1"):
        ConvNet(widths=())
    with pytest.raises(ValueError, match="widths >= 1"):
        ConvNet(widths=(4, 0))
    with pytest.raises(ValueError, match="set encoder.embed_dim"):
        SimCLR(nn.Flatten())
    with pytest.raises(ValueError, match="projection_dim"):
        SimCLR(ConvNet(), 0)
    with pytest.raises(ValueError, match="temperature must be positive"):
        SimCLR(ConvNet(), temperature=0.0)
    with pytest.raises(ValueError, match="views must be of one shape"):
        model()(images(0, size=8), images(0, size=16))
    with pytest.raises(ValueError, match="got a batch of 1"):
        model()(images(0)[:1], images(1)[:1])


def test_widths_may_be_any_integer():
    encoder = ConvNet(widths=np.array([4, 8]))
    assert type(encoder.embed_dim) is int
    encoder.embed_dim = np.int64(8)
    assert SimCLR(encoder, np.int64(5)).project(images(0)).shape == (6, 5)


def test_simclr_is_head_of_encoder_under_nt_xent():
    m = model(temperature=0.2).eval()
    a, b = images(0), images(1)
    z1, z2 = (m.head(m.encoder(v)) for v in (a, b))
    torch.testing.assert_close(m(a, b), nt_xent(z1, z2, 0.2))
    torch.testing.assert_close(m.project(a), z1)
    assert z1.shape == (6, 5)


def test_what_is_kept_comes_before_the_head():
    m = model().eval()
    before = m.represent(images(0))
    assert before.shape == (6, 8)
    assert torch.equal(before, m.encoder(images(0)))
    nn.init.zeros_(m.head[0].weight)
    assert torch.equal(m.represent(images(0)), before)


def test_the_head_is_two_layers_as_wide_as_the_encoder_by_default():
    sizes = [(p.in_features, p.out_features) for p in model().head if isinstance(p, nn.Linear)]
    assert sizes == [(8, 8), (8, 5)]
    assert model(hidden_dim=32).head[0].out_features == 32
    assert isinstance(model().head[1], nn.ReLU)


def test_both_views_share_one_pass_and_its_batch_statistics():
    m, passes = model(), []
    m.encoder.register_forward_hook(lambda module, args, out: passes.append(len(out)))
    a, b = images(0), images(1) * 0.3  # the second view is much darker
    loss = m(a, b)
    assert passes == [12]
    torch.testing.assert_close(m(b, a), loss)
    separate = nt_xent(m.project(a), m.project(b), 0.5)  # each batch normalised by itself
    assert abs(separate - loss) > 1e-3


def test_every_weight_gets_a_gradient():
    m = model()
    m(images(0), images(1)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in m.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_training_tells_the_partner_better_among_images_never_seen(seed):
    data = shapes(seed, n_train=256, n_validation=64, n_test=1, size=12)
    view, g = BatchViews(12), seeded(seed)
    m = SimCLR(ConvNet(widths=(8, 16, 32), generator=g), 16, temperature=0.2, generator=g)

    def loss(x, g):
        return m(view(x, g), view(x, g))

    with torch.no_grad():
        before = loss(data.validation.x, seeded(99))
    pretrain(
        m, lambda i, g: loss(data.train.x[i], g), 256, steps=80, batch_size=64, lr=1e-2, seed=seed
    )
    with torch.no_grad():
        assert loss(data.validation.x, seeded(99)) < before - 0.4


def test_every_trained_weight_of_a_transformer_under_simclr_gets_a_gradient():
    """DistributedDataParallel waits for the gradient of all that requires one."""
    m = SimCLR(VisionTransformer(8, 4, embed_dim=16, depth=2, num_heads=2), 5)
    m(images(0), images(1)).backward()
    assert all((p.grad is not None) == p.requires_grad for p in m.parameters())


# --- Several processes -----------------------------------------------------------------------


def test_without_a_process_group_nothing_is_gathered():
    z = torch.ones(3, 2)
    assert gather_across_processes(z) is z


def whole_batch():
    return images(0, n=8), images(1, n=8)


def gradients_on_two_ranks():
    """Loss and gradients of one rank, which holds half of the images, after DDP's average."""
    with distributed("gloo") as world:
        m = model(temperature=0.2).eval()  # eval: BatchNorm sees one rank's half only
        half = slice(4 * world.rank, 4 * world.rank + 4)
        views = [v[half] for v in whole_batch()]
        parallel = DistributedDataParallel(m)
        loss = parallel(*views)
        loss.backward()
        gathered = gather_across_processes(views[0])
        local = nt_xent(*(m.project(v) for v in views), 0.2)
        return loss.item(), local.item(), [p.grad for p in m.parameters()], gathered


def steps_of_a_transformer_on_two_ranks():
    with distributed("gloo") as world:
        torch.manual_seed(0)
        m = SimCLR(VisionTransformer(8, 4, embed_dim=16, depth=1, num_heads=2), 5)
        parallel = DistributedDataParallel(m)  # finds unused parameters at the second step
        for _ in range(3):
            parallel(*(v[4 * world.rank : 4 * world.rank + 4] for v in whole_batch())).backward()
        return next(m.parameters()).grad.norm().item()


def test_a_transformer_under_simclr_trains_in_ddp_without_unused_parameters():
    first, second = launch(steps_of_a_transformer_on_two_ranks, 2)
    assert first == second > 0


def test_two_ranks_contrast_with_each_other_and_get_the_gradients_of_one_process():
    m = model(temperature=0.2).eval()
    expected = m(*whole_batch())
    expected.backward()
    for loss, local, gradients, gathered in launch(gradients_on_two_ranks, 2):
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        assert local < loss - 0.1  # half of the negatives: an easier question
        assert torch.equal(gathered, whole_batch()[0])
        for parameter, gradient in zip(m.parameters(), gradients, strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


# --- What the listings do --------------------------------------------------------------------


def listing_dino_loss(student_out, teacher_out, center=0.0, temp=0.04):
    """The document's "contrastive loss", with a centre given, for it has none."""
    student = F.softmax(student_out / 0.1, dim=1)
    teacher = F.softmax((teacher_out - center) / temp, dim=1)
    return -torch.sum(teacher * torch.log(student), dim=1).mean()


def listing_simmim_loss(predictions, targets, mask):
    return F.mse_loss(predictions[mask.bool()], targets[mask.bool()])


@SEEDS
def test_listing_contrastive_section_has_no_negatives(seed):
    """Another image in the batch changes no image's loss: there is nothing to contrast with."""
    z1, z2 = (F.normalize(z, dim=1) for z in pairs(seed, b=6))
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    masks = mask.expand(6, 5)
    for loss in (listing_dino_loss, lambda a, b: listing_simmim_loss(a, b, masks[: len(a)])):
        alone = torch.stack([loss(z1[i : i + 1], z2[i : i + 1]) for i in range(6)])
        torch.testing.assert_close(loss(z1, z2), alone.mean())
    pairs_alone = [nt_xent(z1[i : i + 2], z2[i : i + 2]) for i in (0, 2, 4)]
    assert nt_xent(z1, z2) > torch.stack(pairs_alone).mean() + 0.5


def test_listing_contrastive_loss_is_least_where_everything_has_collapsed():
    one_answer = torch.tensor([[5.0, 0.0, 0.0]]).expand(8, 3)  # whatever the image
    assert listing_dino_loss(one_answer, one_answer).item() == pytest.approx(0, abs=1e-6)
    assert nt_xent(one_answer, one_answer).item() == pytest.approx(math.log(15))
    different = torch.randn(8, 3, generator=seeded(0))
    assert listing_dino_loss(different, different) > 0.01
