"""DINO and DINOv2: equal to lightly and the papers' formulas, and what the listing gets wrong."""

import copy
import math
import sys

import cloudpickle
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dlcourse.large_scale_training import distributed, launch
from dlcourse.self_supervised_learning import (
    DINO,
    DINOHead,
    DINOLoss,
    VisionTransformer,
    blob_masks,
    iBOTLoss,
    koleo_loss,
    momentum_schedule,
    pretrain,
    sinkhorn_knopp,
    update_teacher,
)

# After dlcourse, which lets torchvision be imported beside a CPU build of torch.
from lightly.loss import DINOLoss as LightlyDINOLoss
from lightly.loss import IBOTPatchLoss, KoLeoLoss
from lightly.loss.swav_loss import sinkhorn as lightly_sinkhorn
from lightly.models.modules.heads import DINOProjectionHead
from lightly.utils.scheduler import cosine_schedule

# The ranks get this file's code by value, and need not import the libraries compared with.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SEEDS = pytest.mark.parametrize("seed", range(8))
LOSSES = pytest.mark.parametrize("loss_class", [DINOLoss, iBOTLoss])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def views(seed, count, batch, k):
    return list(normal(seed, count, batch, k))


def entropy(p):
    return -torch.special.xlogy(p, p).sum(-1)


def small_vit(seed=0, **kwargs):
    return VisionTransformer(
        16, 4, 3, embed_dim=24, depth=2, num_heads=2, generator=seeded(seed), **kwargs
    )


def small_dino(seed=0, k=12, ibot=False, **kwargs):
    def head(shift):
        return DINOHead(24, k, 20, 8, generator=seeded(seed + shift))

    extra = {"patch_head": head(2), "patch_loss": iBOTLoss(k)} if ibot else {}
    return DINO(small_vit(seed), head(1), DINOLoss(k), **extra, **kwargs)


def images(seed, count, batch, size=16):
    return list(torch.rand(count, batch, 3, size, size, generator=seeded(seed)))


# --- The head --------------------------------------------------------------------------------


@SEEDS
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_head_equals_lightlys_given_the_same_weights(seed):
    theirs = DINOProjectionHead(10, 14, 6, 9).double()
    ours = DINOHead(10, 9, 14, 6, generator=seeded(seed)).double()
    linear = [layer for layer in theirs.layers if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for mine, layer in zip(ours.mlp[::2], linear, strict=True):
            layer.weight.copy_(mine.weight)
            mine.bias.copy_(normal(seed, *mine.bias.shape))
            layer.bias.copy_(mine.bias)
        theirs.last_layer.weight_v.copy_(ours.prototypes)
    x = normal(seed, 5, 10)
    assert (ours(x) - theirs(x)).abs().max() < 1e-14


def test_scores_are_cosines_whatever_the_lengths():
    head = DINOHead(10, 9, 14, 6, generator=seeded(0))
    x = normal(0, 50, 10, dtype=torch.float32)
    before = head(x)
    assert before.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        head.prototypes.mul_(torch.rand(9, 1, generator=seeded(1)) * 100 + 0.1)
        head.mlp[-1].weight.mul_(50)
        head.mlp[-1].bias.mul_(50)
    assert torch.allclose(head(x), before, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_the_head_has_as_many_linear_layers_as_asked(layers):
    head = DINOHead(10, 9, 14, 6, layers=layers)
    widths = [(m.in_features, m.out_features) for m in head.mlp if isinstance(m, nn.Linear)]
    assert len(widths) == layers
    assert widths[0][0] == 10 and widths[-1][1] == 6
    assert not isinstance(head.mlp[-1], nn.GELU)
    assert head(torch.zeros(2, 3, 10)).shape == (2, 3, 9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_head_is_finite_in_half_precision_for_features_of_length_0(dtype):
    head = DINOHead(10, 9, 14, 6, generator=seeded(0)).to(dtype)
    x = torch.cat([torch.zeros(1, 10), normal(0, 4, 10).float()]).to(dtype).requires_grad_()
    scores = head(x)  # biases start at 0: the first bottleneck has length 0
    scores.float().square().sum().backward()
    assert scores.dtype == dtype
    assert scores.isfinite().all() and scores[0].eq(0).all()
    assert all(p.grad.isfinite().all() for p in head.parameters())
    expected = DINOHead(10, 9, 14, 6, generator=seeded(0))(x.detach().float())
    assert (scores.float() - expected).abs().max() < 0.03


def test_the_head_refuses_sizes_below_one():
    for name in ("out_dim", "hidden_dim", "bottleneck_dim", "layers"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            DINOHead(10, **{name: 0})
    with pytest.raises(ValueError, match="in_dim must be at least 1"):
        DINOHead(0)


# --- Sinkhorn-Knopp --------------------------------------------------------------------------


@SEEDS
@pytest.mark.parametrize("iterations", [1, 3, 7])
def test_sinkhorn_is_alternate_scaling_of_columns_and_rows(seed, iterations):
    logits = normal(seed, 11, 6).numpy()
    q = np.exp(logits / 0.3)
    for _ in range(iterations):
        q = q / q.sum(0, keepdims=True)
        q = q / q.sum(1, keepdims=True)
    ours = sinkhorn_knopp(torch.from_numpy(logits), 0.3, iterations).numpy()
    assert np.abs(ours - q).max() < 1e-13


@SEEDS
def test_sinkhorn_equals_lightlys(seed):
    logits = normal(seed, 20, 7).clamp(-1, 1)
    theirs = lightly_sinkhorn(logits, iterations=3, epsilon=0.05)
    assert (sinkhorn_knopp(logits, 0.05, 3) - theirs).abs().max() < 1e-12


def test_rows_are_distributions_at_once_and_columns_become_equal():
    logits = normal(0, 32, 8)
    errors = []
    for iterations in (1, 3, 10, 100):
        q = sinkhorn_knopp(logits, 0.2, iterations)
        assert (q.sum(1) - 1).abs().max() < 1e-12
        errors.append((q.sum(0) - 32 / 8).abs().max().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 < errors[0]


def test_a_centre_changes_nothing_before_sinkhorn():
    logits = normal(1, 10, 6)
    shifted = logits + normal(2, 6)
    assert (sinkhorn_knopp(logits, 0.1, 1) - sinkhorn_knopp(shifted, 0.1, 1)).abs().max() < 1e-12


def test_sinkhorn_follows_the_order_of_images_and_prototypes():
    logits = normal(0, 9, 5)
    rows, columns = torch.randperm(9, generator=seeded(1)), torch.randperm(5, generator=seeded(2))
    there = sinkhorn_knopp(logits[rows][:, columns], 0.1)
    assert (there - sinkhorn_knopp(logits, 0.1)[rows][:, columns]).abs().max() < 1e-12


def test_sinkhorn_stays_finite_where_exponentials_overflow_or_vanish():
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 1e4, -1e4], [0.0, 0.0, 0.0]])
    q = sinkhorn_knopp(logits, 0.04)
    assert q.isfinite().all()
    assert torch.allclose(q.sum(1), torch.ones(3))
    naive = lightly_sinkhorn(logits, iterations=3, epsilon=0.04)
    assert naive.isnan().any()


def test_sinkhorn_computes_half_precision_in_float32():
    logits = normal(0, 6, 5, dtype=torch.bfloat16)
    q = sinkhorn_knopp(logits, 0.1)
    assert q.dtype == torch.float32
    assert torch.equal(q, sinkhorn_knopp(logits.float(), 0.1))


def test_sinkhorn_refuses_other_shapes_and_settings():
    with pytest.raises(ValueError, match=r"\(B, K\)"):
        sinkhorn_knopp(torch.zeros(3), 0.1)
    for temperature, iterations in ((0.0, 3), (-1.0, 3), (0.1, 0)):
        with pytest.raises(ValueError, match="temperature > 0 and iterations >= 1"):
            sinkhorn_knopp(torch.zeros(3, 2), temperature, iterations)


# --- DINO's loss -----------------------------------------------------------------------------


def loss_by_hand(student, teacher, center, student_temp, teacher_temp):
    """Caron et al. (2021), algorithm 1, for any number of views; NumPy, float64."""
    total, count = 0.0, 0
    for t, g_t in enumerate(teacher):
        p = np.exp(log_softmax((g_t.numpy() - center) / teacher_temp, axis=-1))
        for s, g_s in enumerate(student):
            if s != t:
                log_q = log_softmax(g_s.numpy() / student_temp, axis=-1)
                total += -(p * log_q).sum(-1).mean()
                count += 1
    return total / count


@SEEDS
def test_loss_and_centre_are_the_papers(seed):
    count, k = 2 + seed % 4, 3 + seed
    loss = DINOLoss(k, teacher_temp=0.05, student_temp=0.13, center_momentum=0.8).double()
    center = np.zeros(k)
    for batch in range(4):
        student, teacher = views(10 * seed + batch, count, 5, k), views(500 + batch, 2, 5, k)
        expected = loss_by_hand(student, teacher, center, 0.13, 0.05)
        assert loss(student, teacher).item() == pytest.approx(expected, abs=1e-11)
        center = 0.8 * center + 0.2 * torch.stack(teacher).mean((0, 1)).numpy()
        assert np.abs(loss.center.numpy() - center).max() < 1e-14


@SEEDS
def test_loss_equals_lightlys(seed):
    k = 16
    ours = DINOLoss(k, teacher_temp=0.06).double()
    theirs = LightlyDINOLoss(k, teacher_temp=0.06).double()
    for batch in range(4):
        student, teacher = views(10 * seed + batch, 2 + seed % 5, 7, k), views(batch, 2, 7, k)
        assert ours(student, teacher).item() == pytest.approx(
            theirs(teacher, student).item(), rel=1e-7
        )
    assert torch.allclose(ours.center, theirs.center.flatten(), atol=1e-12)


def test_one_pair_of_views_by_hand():
    # P_t = softmax((ln 3, 0)) = (3/4, 1/4), P_s = softmax((0, ln 7)) = (1/8, 7/8)
    loss = DINOLoss(2, student_temp=1.0, teacher_temp=0.5, warmup_teacher_temp=0.5)
    teacher = [torch.tensor([[math.log(3) / 2, 0.0]])]
    student = [torch.tensor([[5.0, -5.0]]), torch.tensor([[0.0, math.log(7)]])]
    expected = -(0.75 * math.log(1 / 8) + 0.25 * math.log(7 / 8))
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-6)


def test_no_view_meets_itself():
    student = [v.requires_grad_() for v in views(0, 2, 4, 6)]
    DINOLoss(6).double()(student, views(1, 1, 4, 6)).backward()
    assert student[0].grad.abs().max() == 0  # its only teacher shows the same view
    assert student[1].grad.abs().max() > 0


def test_local_views_meet_every_global_one():
    student, teacher = views(0, 3, 4, 6), views(1, 2, 4, 6)
    loss = DINOLoss(6).double().eval()
    grads = []
    for changed in (0, 1):
        local = student[2].clone().requires_grad_()
        moved = [t + (i == changed) for i, t in enumerate(teacher)]
        moved[changed] = moved[changed] * 2
        loss([*student[:2], local], moved).backward()
        grads.append(local.grad)
    assert not torch.allclose(grads[0], grads[1])


def test_the_gradient_reaches_the_student_alone():
    student = [v.requires_grad_() for v in views(0, 3, 4, 6)]
    teacher = [v.requires_grad_() for v in views(1, 2, 4, 6)]
    DINOLoss(6).double()(student, teacher).backward()
    assert all(v.grad.abs().max() > 0 for v in student)
    assert all(v.grad is None for v in teacher)


def test_the_gradient_is_the_difference_of_the_distributions():
    loss = DINOLoss(6, student_temp=0.2, teacher_temp=0.1).double()
    student, teacher = views(0, 2, 4, 6), views(1, 1, 4, 6)
    student[1].requires_grad_()
    loss(student, teacher).backward()
    p, q = (teacher[0] / 0.1).softmax(-1), (student[1].detach() / 0.2).softmax(-1)
    assert torch.allclose(student[1].grad, (q - p) / 0.2 / 4, atol=1e-12)


def test_the_loss_is_the_teachers_entropy_plus_a_divergence():
    loss = DINOLoss(6).double()
    student, teacher = views(0, 2, 4, 6), views(1, 1, 4, 6)
    p = loss.probabilities(teacher[0])
    log_q = (student[1] / loss.student_temp).log_softmax(-1)
    kl = F.kl_div(log_q, p, reduction="batchmean")
    assert loss(student, teacher).item() == pytest.approx((entropy(p).mean() + kl).item())


def test_the_warm_up_is_linear_and_then_constant():
    loss = DINOLoss(4, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_steps=30)
    steps = [0, 10, 15, 29, 30, 31, 10**6]
    assert [loss.temperature(s) for s in steps] == pytest.approx(
        [0.04, 0.05, 0.055, 0.069, 0.07, 0.07, 0.07]
    )
    assert DINOLoss(4, teacher_temp=0.07).temperature(0) == 0.07  # no warm-up


def test_the_step_sets_the_temperature_of_the_loss():
    teacher, student = views(0, 1, 4, 5), views(1, 2, 4, 5)
    loss = DINOLoss(5, warmup_teacher_temp=0.02, teacher_temp=0.2, warmup_steps=10).double().eval()
    for step in (0, 4, 10, 50):
        expected = loss_by_hand(student, teacher, np.zeros(5), 0.1, loss.temperature(step))
        assert loss(student, teacher, step).item() == pytest.approx(expected)
    assert abs(loss(student, teacher, 0) - loss(student, teacher, 10)) > 0.1


def test_the_centre_takes_in_the_batch_after_it_was_used():
    teacher, student = [normal(0, 6, 4) + torch.arange(4)], views(1, 2, 6, 4)
    loss = DINOLoss(4, center_momentum=0.5).double()
    first = loss(student, teacher)
    assert first.item() == pytest.approx(loss_by_hand(student, teacher, np.zeros(4), 0.1, 0.07))
    assert torch.allclose(loss.center, teacher[0].mean(0) / 2)
    assert loss(student, teacher) != first


def test_the_centre_stands_still_in_eval_mode_and_is_saved():
    loss = DINOLoss(4)
    loss(views(0, 2, 6, 4), views(1, 1, 6, 4))
    saved = loss.state_dict()["center"].clone()
    assert saved.abs().max() > 0
    loss.eval()(views(2, 2, 6, 4), views(3, 1, 6, 4))
    assert torch.equal(loss.center, saved)
    fresh = DINOLoss(4)
    fresh.load_state_dict(loss.state_dict())
    assert torch.equal(fresh.center, saved)


@LOSSES
@pytest.mark.parametrize("centering", ["none", "sinkhorn_knopp"])
def test_without_centering_there_is_no_centre(loss_class, centering):
    loss = loss_class(4, centering=centering)
    if loss_class is DINOLoss:
        loss(views(0, 2, 6, 4), views(1, 1, 6, 4))
    else:
        loss(normal(0, 3, 4), normal(1, 3, 4), torch.ones(1, 3, dtype=torch.bool))
    assert torch.equal(loss.center, torch.zeros(4))


@SEEDS
def test_sinkhorn_takes_all_global_views_as_one_batch(seed):
    student, teacher = views(seed, 3, 5, 7), views(seed + 100, 2, 5, 7)
    loss = DINOLoss(7, teacher_temp=0.2, centering="sinkhorn_knopp").double()
    p = sinkhorn_knopp(torch.cat(teacher), 0.2).view(2, 5, 7)
    log_q = (torch.stack(student) / 0.1).log_softmax(-1)
    terms = [-(p[t] * log_q[s]).sum(-1).mean() for t in range(2) for s in range(3) if t != s]
    assert loss(student, teacher).item() == pytest.approx(torch.stack(terms).mean().item())


def test_the_loss_is_finite_for_scores_far_apart():
    far = torch.tensor([[1e4, 0.0]])
    assert DINOLoss(2)([far, far], [far.flip(1)]).isfinite()


def test_half_precision_scores_give_a_float32_loss():
    student = [v.bfloat16() for v in views(0, 2, 4, 6)]
    teacher = [v.bfloat16() for v in views(1, 2, 4, 6)]
    low, high = DINOLoss(6), DINOLoss(6)
    value = low(student, teacher)
    assert value.dtype == torch.float32
    assert value == high([v.float() for v in student], [v.float() for v in teacher])
    assert low.center.dtype == torch.float32


def test_views_that_do_not_fit_are_refused():
    loss = DINOLoss(6)
    one, two = views(0, 1, 4, 6), views(1, 2, 4, 6)
    for student, teacher in ((one, one), (two, []), (two, [*two, *one])):
        with pytest.raises(ValueError, match="every view of the teacher and at least one other"):
            loss(student, teacher)
    with pytest.raises(ValueError, match="out_dim = 6"):
        loss(views(0, 2, 4, 5), one)
    with pytest.raises(ValueError, match="the same B images"):
        loss([two[0], two[1][:3]], one)


@LOSSES
def test_settings_out_of_range_are_refused(loss_class):
    for setting, match in [
        ({"out_dim": 0}, "out_dim >= 1"),
        ({"warmup_steps": -1}, "warmup_steps >= 0"),
        ({"student_temp": 0.0}, "temperatures must be positive"),
        ({"teacher_temp": -0.1}, "temperatures must be positive"),
        ({"warmup_teacher_temp": 0.0}, "temperatures must be positive"),
        ({"center_momentum": 1.0}, r"must lie in \[0, 1\)"),
        ({"centering": "centring"}, "centering must be one of"),
    ]:
        with pytest.raises(ValueError, match=match):
            loss_class(**{"out_dim": 4, **setting})


# --- iBOT ------------------------------------------------------------------------------------


def random_mask(seed, b, n):
    mask = torch.rand(b, n, generator=seeded(seed)) < 0.4
    mask[0] = False  # an image that keeps all its patches
    mask[1, 0] = True
    return mask


@SEEDS
def test_ibot_equals_lightlys(seed):
    ours, theirs = iBOTLoss(7, teacher_temp=0.05).double(), IBOTPatchLoss(7, 0.05).double()
    for batch in range(3):
        mask = random_mask(10 * seed + batch, 4, 9)
        m = int(mask.sum())
        student, teacher = normal(seed, m, 7), normal(batch, m, 7)
        expected = theirs(teacher, student, mask.view(4, 3, 3))
        assert ours(student, teacher, mask).item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(ours.center, theirs.center.value.flatten(), atol=1e-12)


@SEEDS
@pytest.mark.parametrize("centering", ["centering", "sinkhorn_knopp"])
def test_ibot_is_a_mean_over_images_of_means_over_hidden_patches(seed, centering):
    mask = random_mask(seed, 5, 8)
    student, teacher = normal(seed, 5, 8, 6), normal(seed + 50, 5, 8, 6)
    p = (teacher / 0.2).softmax(-1)
    if centering == "sinkhorn_knopp":  # over the hidden patches of all images
        p[mask] = sinkhorn_knopp(teacher[mask], 0.2)
    ce = -(p * (student / 0.1).log_softmax(-1)).sum(-1)
    per_image = [ce[i, mask[i]].mean() if mask[i].any() else torch.zeros(()) for i in range(5)]
    loss = iBOTLoss(6, teacher_temp=0.2, centering=centering).double()
    value = loss(student[mask], teacher[mask], mask)
    assert value.item() == pytest.approx((sum(per_image) / 5).item())


def test_nothing_hidden_costs_nothing_and_leaves_the_centre():
    for centering in ("centering", "sinkhorn_knopp"):
        loss = iBOTLoss(6, centering=centering)
        loss.center.fill_(1.0)
        value = loss(torch.zeros(0, 6), torch.zeros(0, 6), torch.zeros(3, 4))
        assert value == 0
        assert torch.equal(loss.center, torch.ones(6))


def centre_where_one_rank_hides_nothing():
    """The centre after a batch that hides patches on rank 1 alone, and after one that hides none."""
    with distributed("gloo") as world:
        loss, centers = iBOTLoss(6), []
        loss.center.fill_(1.0)
        for m in (3 * world.rank, 0):
            scores = normal(0, m, 6).float()
            loss(scores, scores, torch.ones(1, m))
            centers.append(loss.center.clone())
        return centers


def test_a_rank_without_hidden_patches_takes_the_others_centre():
    moved = 0.9 + 0.1 * normal(0, 3, 6).float().mean(0)
    for first, second in launch(centre_where_one_rank_hides_nothing, 2, time_limit=300):
        assert torch.allclose(first, moved, atol=1e-6)
        assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@LOSSES
def test_a_centre_of_half_precision_is_summed_in_float32(loss_class, dtype):
    # 4,096 scores of 40: their float16 sum is infinite, their bfloat16 sum stops growing early.
    loss, scores = loss_class(3, center_momentum=0.0).to(dtype), torch.full((4096, 3), 40.0)
    loss.update_center(scores.to(dtype))
    assert loss.center.dtype == dtype
    assert torch.equal(loss.center.float(), torch.full((3,), 40.0))


def test_ibot_refuses_patches_that_do_not_fit_the_mask():
    mask = torch.tensor([[True, False, True]])
    loss = iBOTLoss(6)
    with pytest.raises(ValueError, match="2 patches are hidden in the mask, 3 were given"):
        loss(torch.zeros(3, 6), torch.zeros(3, 6), mask)
    with pytest.raises(ValueError, match="the same patches"):
        loss(torch.zeros(2, 6), torch.zeros(3, 6), mask)
    with pytest.raises(ValueError, match="out_dim = 6"):
        loss(torch.zeros(2, 5), torch.zeros(2, 5), mask)
    with pytest.raises(ValueError, match=r"mask must be \(B, N\)"):
        loss(torch.zeros(2, 6), torch.zeros(2, 6), mask[0])


@pytest.mark.parametrize("grid", [(4, 4), (14, 14), (3, 8)])
def test_every_batch_of_masks_hides_the_same_number_of_patches(grid):
    n, patches = 32, grid[0] * grid[1]
    totals = set()
    for seed in range(20):
        mask = blob_masks(n, grid, seeded(seed))
        assert mask.shape == (n, patches) and mask.dtype == torch.bool
        share = mask.double().mean(1)
        assert (share > 0).sum() == n // 2
        assert share.max() <= 0.5 + 0.5 / patches
        totals.add(int(mask.sum()))
    assert len(totals) == 1


def test_masks_come_from_the_generator_and_hang_together():
    a, b, c = (blob_masks(64, (14, 14), seeded(s), probability=1.0) for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    grid = a.view(64, 14, 14)
    neighbour = grid[:, :, 1:][grid[:, :, :-1]].double().mean()
    assert neighbour > 0.6  # scattered patches: 0.3
    assert torch.equal(blob_masks(6, (4, 4), seeded(0), probability=0.0), torch.zeros(6, 16).bool())


def test_masks_refuse_shares_out_of_range():
    shares = [{"share": share} for share in ((0.0, 0.5), (0.5, 0.1), (0.1, 1.0))]
    for bad in (*shares, {"probability": 2}):
        with pytest.raises(ValueError, match="share"):
            blob_masks(4, (4, 4), seeded(0), **bad)
    with pytest.raises(ValueError, match="n >= 1"):
        blob_masks(0, (4, 4), seeded(0))


# --- KoLeo -----------------------------------------------------------------------------------


@SEEDS
def test_koleo_equals_lightlys_and_its_formula(seed):
    x = normal(seed, 12, 5) * (1 + 3 * torch.rand(12, 1, generator=seeded(seed)))
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    distance = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert koleo_loss(x).item() == pytest.approx(-np.log(distance.min(1)).mean(), abs=1e-6)
    assert koleo_loss(x).item() == pytest.approx(KoLeoLoss()(x).item(), abs=1e-6)


def test_koleo_of_points_spaced_evenly_on_a_circle():
    turn = 2 * math.pi * torch.arange(7, dtype=torch.float64) / 7
    x = torch.stack([turn.cos(), turn.sin()], 1) * 3
    assert koleo_loss(x).item() == pytest.approx(-math.log(2 * math.sin(math.pi / 7)), abs=1e-6)


def test_koleo_is_finite_where_features_coincide():
    x = torch.ones(3, 4, requires_grad=True)
    value = koleo_loss(x)
    value.backward()
    assert value.item() == pytest.approx(-math.log(1e-8), rel=1e-3)
    assert x.grad.isfinite().all()


def test_descending_koleo_spreads_features():
    x = (torch.ones(8, 2) + 0.1 * normal(0, 8, 2).float()).requires_grad_()
    start = koleo_loss(x).item()
    optimizer = torch.optim.Adam([x], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        koleo_loss(x).backward()
        optimizer.step()
    assert koleo_loss(x).item() < start - 1


def test_koleo_keeps_float32_under_autocast():
    x = normal(0, 16, 8).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(koleo_loss(x), koleo_loss(x.clone()))
        inside = koleo_loss(x)
    assert inside.dtype == torch.float32 and inside == koleo_loss(x)


def test_koleo_needs_two_images():
    for x in (torch.zeros(1, 4), torch.zeros(4)):
        with pytest.raises(ValueError, match="one image has no neighbour"):
            koleo_loss(x)


# --- The teacher's step ----------------------------------------------------------------------


def network(seed, width=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 2)).double()


def test_the_teacher_moves_by_the_equation():
    student, teacher = network(0), network(1)
    expected = [0.9 * t + 0.1 * s for s, t in zip(student.parameters(), teacher.parameters())]
    before = [s.clone() for s in student.parameters()]
    where = [p.data_ptr() for p in teacher.parameters()]
    update_teacher(student, teacher, 0.9)
    for got, e in zip(teacher.parameters(), expected, strict=True):
        assert (got - e).abs().max() < 1e-15
    assert [p.data_ptr() for p in teacher.parameters()] == where  # in place
    assert all(torch.equal(s, b) for s, b in zip(student.parameters(), before, strict=True))
    assert all(p.grad_fn is None for p in teacher.parameters())


def test_after_k_updates_a_share_of_m_to_the_k_is_left():
    student, teacher = network(0), network(1)
    start = [t.clone() for t in teacher.parameters()]
    for _ in range(50):
        update_teacher(student, teacher, 0.95)
    left = 0.95**50
    for t, t0, s in zip(teacher.parameters(), start, student.parameters(), strict=True):
        assert (t - (left * t0 + (1 - left) * s)).abs().max() < 1e-13


def test_momentum_one_leaves_the_teacher_and_zero_copies_the_student():
    student, teacher = network(0), network(1)
    before = [t.clone() for t in teacher.parameters()]
    update_teacher(student, teacher, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    update_teacher(student, teacher, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), teacher.parameters()))


def test_buffers_are_copied_counters_too():
    student, teacher = network(0), network(1)
    student(normal(0, 16, 4))
    update_teacher(student, teacher, 0.996)
    assert torch.equal(teacher[1].running_mean, student[1].running_mean)
    assert torch.equal(teacher[1].running_var, student[1].running_var)
    assert teacher[1].num_batches_tracked == 1
    assert teacher[1].num_batches_tracked.dtype == torch.int64


def test_a_teacher_of_another_shape_is_refused_by_name_and_left_alone():
    student = network(0)
    deeper = nn.Sequential(*copy.deepcopy(student), nn.Linear(2, 2).double())
    for other, match in [
        (network(1, width=5), r"'0\.weight' is \(3, 4\).*in the student and \(5, 4\)"),
        (deeper, r"the student has no parameter '3\.weight'"),
        (copy.deepcopy(student)[:2], r"the teacher has no parameter '2\.weight'"),
        (copy.deepcopy(student).float(), r"float64 in the student and .*float32 in the teacher"),
    ]:
        before = [p.clone() for p in other.parameters()]
        with pytest.raises(ValueError, match=match):
            update_teacher(student, other, 0.5)
        assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))
    no_norm = nn.Sequential(student[0], nn.LayerNorm(3).double(), student[2])
    with pytest.raises(ValueError, match=r"the teacher has no buffer '1\.running_mean'"):
        update_teacher(student, no_norm, 0.5)


@pytest.mark.parametrize("momentum", [-0.1, 1.1, math.nan])
def test_a_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\]"):
        update_teacher(network(0), network(1), momentum)


def test_what_bfloat16_rounds_away_depends_on_the_difference_not_on_the_weight():
    # 1 − m of the difference: far from the student a bfloat16 teacher moves, near it does not.
    for gap, moves in ((4.0, True), (0.01, False)):
        student, teacher = nn.Linear(1, 1).bfloat16(), nn.Linear(1, 1).bfloat16()
        nn.init.constant_(student.weight, 1 + gap)
        nn.init.constant_(teacher.weight, 1.0)
        update_teacher(student, teacher, 0.996)
        assert (teacher.weight.item() != 1.0) == moves
    assert torch.tensor(1.0).bfloat16() * 1.004 != 1  # a change of 0.4 % of the weight stays


def test_a_bfloat16_teacher_stands_still():
    student, teacher = nn.Linear(1, 1), nn.Linear(1, 1)
    for module, value in ((student, 1.01), (teacher, 1.0)):
        nn.init.constant_(module.weight, value)
    student16, teacher16 = copy.deepcopy(student).bfloat16(), copy.deepcopy(teacher).bfloat16()
    for _ in range(500):
        update_teacher(student, teacher, 0.996)
        update_teacher(student16, teacher16, 0.996)
    assert teacher.weight.item() == pytest.approx(1.01 - 0.01 * 0.996**500, abs=1e-5)
    assert teacher16.weight.item() == 1.0 != student16.weight.item()


def test_the_momentum_follows_half_a_cosine():
    assert momentum_schedule(0, 100) == pytest.approx(0.996, abs=1e-15)
    assert momentum_schedule(50, 100) == pytest.approx(0.998, abs=1e-15)
    assert momentum_schedule(100, 100) == 1.0
    values = [momentum_schedule(s, 100) for s in range(101)]
    assert values == sorted(values)
    for step in range(100):  # lightly's reaches its end at step total − 1
        assert momentum_schedule(step, 99, 0.9, 0.99) == pytest.approx(
            cosine_schedule(step, 100, 0.9, 0.99)
        )


def test_the_schedule_refuses_what_is_out_of_range():
    for step, total in ((-1, 10), (11, 10), (0, 0)):
        with pytest.raises(ValueError, match="step must lie in"):
            momentum_schedule(step, total)
    with pytest.raises(ValueError, match=r"start and end must lie in \[0, 1\]"):
        momentum_schedule(0, 10, 0.9, 1.1)


# --- All together ----------------------------------------------------------------------------


def test_student_and_teacher_start_equal_and_only_one_is_trained():
    model = small_dino(ibot=True)
    student, teacher = model.student.state_dict(), model.teacher.state_dict()
    assert student.keys() == teacher.keys()
    assert all(torch.equal(student[n], teacher[n]) for n in student)
    assert all(not p.requires_grad for p in model.teacher.parameters())
    assert all(p.requires_grad for p in model.student.parameters())
    model.train()
    assert model.student.training and not model.teacher.training


def test_the_loss_is_that_of_its_parts():
    model = small_dino(ibot=True, ibot_weight=0.7, koleo_weight=0.3).double()
    large = [v.double() for v in images(0, 2, 4)]
    local = [v.double() for v in images(1, 3, 4, size=8)]
    mask = blob_masks(8, (4, 4), seeded(0), share=(0.2, 0.5))
    with torch.no_grad():  # two steps apart
        for p in model.student.parameters():
            p.add_(0.05 * normal(3, *p.shape))

    student, teacher = model.student, model.teacher
    scores, class_tokens, hidden_student, hidden_teacher, targets = [], [], [], [], []
    for i, view in enumerate(large):  # one pass a view, where DINO makes one a size
        m = mask[4 * i : 4 * i + 4]
        tokens = student["encoder"].forward_features(view, m)
        whole = teacher["encoder"].forward_features(view)
        class_tokens.append(tokens[:, 0])
        scores.append(student["head"](tokens[:, 0]))
        targets.append(teacher["head"](whole[:, 0]))
        hidden_student.append(student["patch_head"](tokens[:, 1:])[m])
        hidden_teacher.append(teacher["patch_head"](whole[:, 1:])[m])
    scores += [student["head"](student["encoder"](view)) for view in local]
    dino = DINOLoss(12).double()(scores, targets)
    ibot = iBOTLoss(12).double()(torch.cat(hidden_student), torch.cat(hidden_teacher), mask)
    koleo = sum(koleo_loss(x) for x in class_tokens)

    terms = model(large, local, mask=mask)
    assert terms.dino.item() == pytest.approx(dino.item(), abs=1e-10)
    assert terms.ibot.item() == pytest.approx(ibot.item(), abs=1e-10)
    assert terms.koleo.item() == pytest.approx(koleo.item(), abs=1e-10)
    assert terms.total.item() == pytest.approx((dino + 0.7 * ibot + 0.3 * koleo).item(), abs=1e-10)


class Watched(nn.Module):
    """An encoder that notes what it is given."""

    def __init__(self):
        super().__init__()
        self.vit, self.seen = small_vit(), []

    def forward(self, x):
        return self.forward_features(x)[:, 0]

    def forward_features(self, x, mask=None):
        self.seen.append((tuple(x.shape), mask is not None, torch.is_grad_enabled()))
        self.tokens = self.vit.forward_features(x, mask)
        if self.tokens.requires_grad:
            self.tokens.retain_grad()
        return self.tokens


def test_one_pass_for_each_size_and_the_teacher_sees_global_views_alone():
    model = DINO(Watched(), DINOHead(24, 12, 20, 8), DINOLoss(12))
    model(images(0, 2, 4), [*images(1, 3, 4, size=8), *images(2, 1, 4, size=12)])
    assert model.teacher["encoder"].seen == [((8, 3, 16, 16), False, False)]
    assert model.student["encoder"].seen == [
        ((8, 3, 16, 16), False, True),
        ((12, 3, 8, 8), False, True),
        ((4, 3, 12, 12), False, True),
    ]


def test_the_student_sees_the_masked_image_the_teacher_the_whole_one():
    head = [DINOHead(24, 12, 20, 8) for _ in range(2)]
    model = DINO(Watched(), head[0], DINOLoss(12), patch_head=head[1], patch_loss=iBOTLoss(12))
    mask = blob_masks(8, (4, 4), seeded(0), share=(0.2, 0.5))
    terms = model(images(0, 2, 4), images(1, 1, 4, size=8), mask=mask)
    assert model.teacher["encoder"].seen == [((8, 3, 16, 16), False, False)]
    assert [masked for _, masked, _ in model.student["encoder"].seen] == [True, False]
    assert terms.ibot.requires_grad


def test_ibot_pulls_at_hidden_patches_alone():
    head = [DINOHead(24, 12, 20, 8) for _ in range(2)]
    model = DINO(Watched(), head[0], DINOLoss(12), patch_head=head[1], patch_loss=iBOTLoss(12))
    mask = blob_masks(8, (4, 4), seeded(0), share=(0.2, 0.5))
    model(images(0, 2, 4), mask=mask).ibot.backward()
    pull = model.student["encoder"].tokens.grad.abs().sum(-1)  # (8, 1 + 16)
    assert torch.equal(pull[:, 1:] > 0, mask)
    assert pull[:, 0].max() == 0


def test_every_weight_of_the_student_learns_and_none_of_the_teachers():
    model = small_dino(ibot=True, koleo_weight=0.1)
    mask = blob_masks(8, (4, 4), seeded(0), share=(0.2, 0.5))
    model(images(0, 2, 4), images(1, 2, 4, size=8), mask=mask).total.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.student.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize("ibot", [False, True])
@pytest.mark.parametrize("was_trained", [False, True])
def test_what_requires_a_gradient_gets_one_with_and_without_ibot(ibot, was_trained):
    """DistributedDataParallel waits for the gradient of all that requires one."""
    encoder = small_vit(train_mask_token=was_trained)  # such as one that SimMIM has trained
    extra = {"patch_head": DINOHead(24, 12, 20, 8), "patch_loss": iBOTLoss(12)} if ibot else {}
    model = DINO(encoder, DINOHead(24, 12, 20, 8), DINOLoss(12), **extra)
    mask = blob_masks(8, (4, 4), seeded(0), share=(0.2, 0.5)) if ibot else None
    model(images(0, 2, 4), mask=mask).total.backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert model.student["encoder"].mask_token.requires_grad == ibot


def steps_on_two_ranks(ibot):
    """The total of three steps under DistributedDataParallel, and the weights of the student."""
    with distributed("gloo") as world:
        model = small_dino(ibot=ibot)
        parallel = DistributedDataParallel(model)  # finds unused parameters at the second step
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        mask = blob_masks(8, (4, 4), seeded(0), share=(0.2, 0.5)) if ibot else None
        for step in range(3):
            optimizer.zero_grad()
            parallel(images(10 * step + world.rank, 2, 4), mask=mask).total.backward()
            optimizer.step()
            model.update_teacher(0.9)
        return [p.detach() for p in model.student.parameters()]


@pytest.mark.parametrize("ibot", [False, True])
def test_dino_trains_in_ddp_without_unused_parameters(ibot):
    first, second = launch(steps_on_two_ranks, 2, ibot, time_limit=300)
    start = list(small_dino(ibot=ibot).student.parameters())
    for a, b, before in zip(first, second, start, strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, before) for a, before in zip(first, start, strict=True))


def test_prototypes_stand_still_while_their_gradients_are_dropped():
    model = small_dino(ibot=True)
    mask = blob_masks(8, (4, 4), seeded(0), share=(0.2, 0.5))
    model(images(0, 2, 4), mask=mask).total.backward()
    model.drop_prototype_gradients()
    before = {n: p.detach().clone() for n, p in model.student.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    optimizer.step()
    still = {n for n, p in model.student.named_parameters() if torch.equal(p, before[n])}
    assert still == {"head.prototypes", "patch_head.prototypes"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("centering", ["centering", "sinkhorn_knopp"])
def test_half_precision_gives_about_the_same_losses(centering, dtype):
    def make():
        settings = {"centering": centering, "teacher_temp": 0.2}
        heads = [DINOHead(24, 12, 20, 8, generator=seeded(s)) for s in (1, 2)]
        return DINO(
            small_vit(), heads[0], DINOLoss(12, **settings), koleo_weight=0.1,
            patch_head=heads[1], patch_loss=iBOTLoss(12, **settings),
        )  # fmt: skip

    mask = blob_masks(8, (4, 4), seeded(0), share=(0.2, 0.5))
    expected = make()(images(0, 2, 4), images(1, 1, 4, size=8), mask=mask)
    low = make().to(dtype)
    large, small = ([v.to(dtype) for v in images(s, n, 4, z)] for s, n, z in ((0, 2, 16), (1, 1, 8)))
    terms = low(large, small, mask=mask)
    for got, wanted in zip(terms, expected, strict=True):
        assert got.dtype == torch.float32
        assert got.item() == pytest.approx(wanted.item(), rel=0.05, abs=0.05)
    terms.total.backward()
    assert all(p.grad.isfinite().all() for p in low.student.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        under = make()(images(0, 2, 4), images(1, 1, 4, size=8), mask=mask)
    assert under.total.item() == pytest.approx(expected.total.item(), rel=0.05)


@pytest.mark.filterwarnings("ignore")
def test_dino_is_exported_with_any_number_of_images():
    class Total(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, one, other):
            return self.model([one, other]).total

    model = Total(small_dino()).eval()
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    example = tuple(images(0, 2, 3))
    exported = torch.export.export(model, example, dynamic_shapes=(batch, batch)).module()
    for b in (1, 3, 5):
        pair = images(b, 2, b)
        assert torch.allclose(exported(*pair), model(*pair), atol=1e-5)


def test_the_modules_teacher_moves_with_encoder_and_heads():
    model = small_dino(ibot=True)
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(1)
    before = {n: p.clone() for n, p in model.teacher.named_parameters()}
    model.update_teacher(0.75)
    for name, p in model.teacher.named_parameters():
        assert torch.allclose(p, before[name] + 0.25, atol=1e-6), name


def test_an_encoder_without_patches_is_enough_for_plain_dino():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 24))
    model = DINO(encoder, DINOHead(24, 12, 20, 8), DINOLoss(12))
    terms = model(images(0, 2, 4, size=4))
    assert terms.total == terms.dino and terms.ibot == 0 and terms.koleo == 0


def test_parts_that_do_not_fit_are_refused():
    head, loss = DINOHead(24, 12, 20, 8), DINOLoss(12)
    with pytest.raises(ValueError, match="12 outputs, its loss expects 13"):
        DINO(small_vit(), head, DINOLoss(13))
    with pytest.raises(ValueError, match="both patch_head and patch_loss"):
        DINO(small_vit(), head, loss, patch_head=head)
    with pytest.raises(ValueError, match="weights must be >= 0"):
        DINO(small_vit(), head, loss, koleo_weight=-1)
    plain, ibot = small_dino(), small_dino(ibot=True)
    mask = torch.zeros(8, 16)
    with pytest.raises(ValueError, match="iBOT needs a mask"):
        ibot(images(0, 2, 4))
    with pytest.raises(ValueError, match="nothing else does"):
        plain(images(0, 2, 4), mask=mask)
    with pytest.raises(ValueError, match="a row for each of the 8 global views, got 4"):
        ibot(images(0, 2, 4), mask=mask[:4])
    with pytest.raises(ValueError, match="at least one global view"):
        plain([])
    with pytest.raises(ValueError, match="at least one other"):
        plain(images(0, 1, 4))
    with pytest.raises(TypeError, match="floating point"):
        plain([(255 * v).to(torch.uint8) for v in images(0, 2, 4)])
    with pytest.raises(ValueError, match="do not tile"):
        plain(images(0, 2, 4, size=15))


# --- Collapse --------------------------------------------------------------------------------


def trained_answers(centering, teacher_temp, steps=100):
    """The teacher's distributions for 128 points, after training on pairs of noisy copies."""
    points = 2 * normal(0, 128, 10).float()
    encoder = nn.Sequential(nn.Linear(10, 32), nn.GELU(), nn.Linear(32, 16))
    torch.manual_seed(0)
    for layer in encoder[::2]:
        layer.reset_parameters()
    head = DINOHead(16, 32, 32, 16, generator=seeded(0))
    loss = DINOLoss(
        32, teacher_temp=teacher_temp, warmup_teacher_temp=teacher_temp, centering=centering
    )
    model = DINO(encoder, head, loss)

    def value(i, g):
        noise = torch.randn(2, len(i), 10, generator=g)
        return model(list(points[i] + 2.0 * noise)).total

    pretrain(
        model, value, 128, steps=steps, batch_size=64, lr=0.01,
        after_step=lambda step: model.update_teacher(0.95),
    )  # fmt: skip
    with torch.no_grad():
        return loss.probabilities(model.teacher["head"](model.teacher["encoder"](points)))


def test_sharpening_without_centering_ends_at_one_prototype():
    p = trained_answers("none", 0.03)
    assert entropy(p).mean() < 0.1 * math.log(32)
    assert p.mean(0).max() > 0.5


def test_centering_without_sharpening_ends_at_the_uniform_distribution():
    p = trained_answers("centering", 0.1)
    assert entropy(p).mean() > 0.97 * math.log(32)


@pytest.mark.parametrize("centering", ["centering", "sinkhorn_knopp"])
def test_both_together_leave_answers_that_depend_on_the_image(centering):
    p = trained_answers(centering, 0.03)
    information = entropy(p.mean(0)) - entropy(p).mean()
    assert information > 0.25
    assert p.mean(0).max() < 0.7


# --- Several processes -----------------------------------------------------------------------


def on_two_ranks():
    """Each rank sees its part of one batch, of which the parts have different sizes."""
    with distributed("gloo") as world:
        part = slice(0, 4) if world.rank == 0 else slice(4, 6)
        student = [v[part] for v in views(0, 3, 6, 5)]
        teacher = [v[part] for v in views(1, 2, 6, 5)]
        loss = DINOLoss(5).double()
        loss(student, teacher)
        mask = random_mask(3, 6, 4)
        patches, targets = normal(4, 6, 4, 5), normal(5, 6, 4, 5)
        ibot = iBOTLoss(5).double()
        ibot(patches[part][mask[part]], targets[part][mask[part]], mask[part])
        q = sinkhorn_knopp(normal(6, 6, 5)[part], 0.1)
        return loss.center, ibot.center, q


def test_two_ranks_share_one_centre_and_one_sinkhorn():
    (center0, patch0, q0), (center1, patch1, q1) = launch(on_two_ranks, 2, time_limit=300)
    assert torch.equal(center0, center1) and torch.equal(patch0, patch1)
    alone = DINOLoss(5).double()
    alone(views(0, 3, 6, 5), views(1, 2, 6, 5))
    assert torch.allclose(center0, alone.center, atol=1e-14)
    mask, targets = random_mask(3, 6, 4), normal(5, 6, 4, 5)
    assert torch.allclose(patch0, 0.1 * targets[mask].mean(0), atol=1e-14)
    whole = sinkhorn_knopp(normal(6, 6, 5), 0.1)
    assert torch.allclose(torch.cat([q0, q1]), whole, atol=1e-12)


# --- The listing -----------------------------------------------------------------------------


class Listing:
    """The document's DINOv2, its lines in our words."""

    def __init__(self, student, teacher, feature_dim=65536, warmup_teacher_temp=0.04,
                 teacher_temp=0.04, warmup_iters=30):  # fmt: skip
        self.student, self.teacher, self.feature_dim = student, teacher, feature_dim
        self.momentum, self.student_temp = 0.996, 0.1
        self.warmup_teacher_temp, self.teacher_temp = warmup_teacher_temp, teacher_temp
        self.warmup_iters = warmup_iters
        self.student_proj, self.teacher_proj = self.head(), self.head()
        for q, k in zip(self.student.parameters(), self.teacher.parameters()):
            k.data.copy_(q.data)
            k.requires_grad = False

    def head(self):
        return nn.Sequential(nn.Linear(1024, 2048), nn.GELU(), nn.Linear(2048, self.feature_dim))

    def forward(self, global_views, local_views):
        return self.dino_loss(self.student(global_views), self.teacher(global_views))

    def dino_loss(self, student_out, teacher_out):
        temp = self.teacher_temp
        if self.global_step < self.warmup_iters:
            temp = self.warmup_teacher_temp
        center = self.center_momentum(teacher_out)
        p_s = F.softmax(student_out / self.student_temp, dim=1)
        p_t = F.softmax((teacher_out - center) / temp, dim=1)
        return -torch.sum(p_t * torch.log(p_s), dim=1).mean()

    def center_momentum(self, output):
        with torch.no_grad():
            self.center = self.center * 0.9 + output.mean(dim=0) * 0.1
        return self.center

    def update_teacher(self):
        for q, k in zip(self.student.parameters(), self.teacher.parameters()):
            k.data = k.data * self.momentum + q.data * (1 - self.momentum)


def listing(feature_dim=8, width=6, step=None, **kwargs):
    torch.manual_seed(0)
    model = Listing(nn.Linear(10, width), nn.Linear(10, width), feature_dim, **kwargs)
    if step is not None:  # what the listing lacks
        model.global_step, model.center = step, torch.zeros(width)
    return model


def test_listing_dino_asks_for_a_step_and_a_centre_that_do_not_exist():
    x = torch.zeros(3, 10)
    model = listing()
    with pytest.raises(AttributeError, match="global_step"):
        model.forward(x, None)
    model.global_step = 0
    with pytest.raises(AttributeError, match="center"):
        model.forward(x, None)
    assert DINOLoss(4)(views(0, 2, 3, 4), views(1, 1, 3, 4)).isfinite()


def test_listing_dino_is_no_module():
    model = listing()
    assert not callable(model)
    assert not hasattr(model, "parameters") and not hasattr(model, "state_dict")
    names = {name.split(".")[0] for name in small_dino().state_dict()}
    assert names == {"student", "teacher", "loss"}


def test_listing_dino_never_uses_its_heads():
    model = listing(step=0)
    model.forward(torch.randn(4, 10), None).backward()
    assert model.student.weight.grad is not None
    assert all(p.grad is None for p in model.student_proj.parameters())
    ours = small_dino()
    ours(images(0, 2, 4)).total.backward()
    assert all(p.grad is not None for p in ours.student["head"].parameters())


def test_listing_dino_draws_the_teachers_head_apart_and_trains_it():
    model = listing()
    student, teacher = model.student_proj[2].weight, model.teacher_proj[2].weight
    assert not torch.allclose(student, teacher)
    assert teacher.requires_grad
    # what a distillation on these heads would compare: unrelated numberings of the outputs
    x = normal(0, 200, 1024).float()
    same = model.student_proj(x).argmax(1) == model.teacher_proj(x).argmax(1)
    assert same.double().mean() < 0.5
    ours = small_dino()
    x = normal(0, 200, 24).float()
    assert torch.equal(ours.student["head"](x), ours.teacher["head"](x))


def test_listing_dino_fixes_the_width_of_the_encoder():
    head = listing().student_proj
    assert head(torch.zeros(2, 1024)).shape == (2, 8)
    for width in (384, 768):  # ViT-S, ViT-B
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            head(torch.zeros(2, width))
        assert DINOHead(width, 8, 16, 4)(torch.zeros(2, width)).shape == (2, 8)


def test_listing_dino_head_has_136_million_parameters():
    with torch.device("meta"):
        theirs = listing(feature_dim=65536).student_proj
        ours = DINOHead(1024, 65536)

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(theirs) == 1024 * 2048 + 2048 + 2048 * 65536 + 65536 == 136_382_464
    expected = 1024 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 256 + 256 + 256 * 65536
    assert count(ours) == expected == 23_597_312


def test_listing_dino_head_has_no_bottleneck_norm_or_weight_norm():
    theirs, ours = listing().student_proj, DINOHead(1024, 8, 64, 16)
    x = normal(0, 3, 1024).float()
    with torch.no_grad():
        before = theirs(x), ours(x)
        theirs[2].weight.mul_(10)
        theirs[2].bias.mul_(10)
        ours.prototypes.mul_(10)
        ours.mlp[-1].weight.mul_(10)
        ours.mlp[-1].bias.mul_(10)
        after = theirs(x), ours(x)
    assert torch.allclose(after[0], 10 * before[0], rtol=1e-3)  # one output can win by growing
    assert torch.allclose(after[1], before[1], atol=1e-5)


def test_listing_dino_ignores_the_local_views():
    x = torch.randn(4, 10)
    losses = {listing(step=0).forward(x, local).item() for local in (None, "anything", [x] * 8)}
    assert len(losses) == 1
    model = small_dino().eval()
    large = images(0, 2, 4)
    with_local = {model(large, images(s, 2, 4, size=8)).total.item() for s in (1, 2)}
    assert len(with_local | {model(large).total.item()}) == 3


def test_listing_dino_compares_a_view_with_itself():
    # Teacher = student, one temperature, no centre: every function of the image is a solution.
    for seed in range(5):
        scores = normal(seed, 6, 4).requires_grad_()
        p = (scores / 0.1).softmax(1).detach()
        (-(p * (scores / 0.1).log_softmax(1)).sum(1).mean()).backward()
        assert scores.grad.abs().max() < 1e-12
        student = [v.requires_grad_() for v in views(seed, 2, 6, 4)]
        loss = DINOLoss(4, teacher_temp=0.1).double()
        loss(student, [v.detach() for v in student]).backward()
        assert all(v.grad.abs().max() > 1e-3 for v in student)


def test_listing_dino_has_no_stop_gradient_at_the_teacher():
    model = listing(step=0)
    x = torch.randn(4, 10, requires_grad=True)
    assert model.teacher(x).requires_grad  # its graph is kept: memory, and a way back
    out = model.teacher_proj(torch.randn(4, 1024))
    (-(out.softmax(1) * torch.randn(4, 8).log_softmax(1)).sum(1).mean()).backward()
    assert model.teacher_proj[2].weight.grad.abs().max() > 0
    teacher = [torch.randn(4, 6, requires_grad=True)]
    assert DINOLoss(6)([torch.randn(4, 6)] * 2, teacher).requires_grad is False


def test_listing_dino_nobody_moves_the_teacher():
    model = listing(step=0)
    optimizer = torch.optim.SGD(model.student.parameters(), lr=1.0)
    before = model.teacher.weight.clone()
    for _ in range(5):
        optimizer.zero_grad()
        model.forward(torch.randn(4, 10), None).backward()
        optimizer.step()
    assert torch.equal(model.teacher.weight, before)
    ours = small_dino()
    before = ours.teacher["head"].prototypes.clone()
    pretrain(
        ours, lambda i, g: ours(images(0, 2, 4)).total, 8, steps=2, batch_size=4,
        after_step=lambda step: ours.update_teacher(0.9),
    )  # fmt: skip
    assert not torch.equal(ours.teacher["head"].prototypes, before)


def test_listing_dino_update_skips_head_and_buffers():
    torch.manual_seed(0)

    def net():
        return nn.Sequential(nn.Linear(10, 6), nn.BatchNorm1d(6))

    model = Listing(net(), net(), 8)
    model.student(torch.randn(32, 10) + 3)
    head = model.teacher_proj[2].weight.clone()
    for _ in range(2000):
        model.update_teacher()
    assert torch.equal(model.teacher_proj[2].weight, head)
    assert torch.equal(model.teacher[1].running_mean, torch.zeros(6))
    assert model.student[1].running_mean.abs().max() > 0.05
    update_teacher(model.student, model.teacher, 0.996)
    assert torch.equal(model.teacher[1].running_mean, model.student[1].running_mean)


def test_listing_dino_accepts_a_teacher_of_another_architecture():
    student, teacher = nn.Linear(10, 6), nn.Sequential(nn.Linear(10, 6), nn.Linear(6, 6))
    extra = teacher[1].weight.clone()
    Listing(student, teacher, 8)  # zip ends with the shorter one
    assert torch.equal(teacher[1].weight, extra) and teacher[1].weight.requires_grad
    with pytest.raises(ValueError, match="has no parameter"):
        update_teacher(student, teacher, 0.996)


def test_listing_dino_gives_the_teacher_new_storage_at_every_update():
    model = listing()
    where = model.teacher.weight.data_ptr()
    kept = [model.teacher.weight.data]  # as a CUDA graph or a flat buffer keeps it
    model.student.weight.data.add_(1)
    model.update_teacher()
    assert model.teacher.weight.data_ptr() != where
    assert not torch.equal(kept[0], model.teacher.weight.data)


def test_listing_dino_takes_the_logarithm_of_an_underflowed_softmax():
    model = listing(width=2, step=0)
    student, teacher = torch.tensor([[12.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert model.dino_loss(student, teacher).isinf()
    one_hot = torch.tensor([[200.0, 0.0]])
    assert model.dino_loss(one_hot, one_hot).isnan()  # 0 · −∞
    ours = DINOLoss(2, teacher_temp=0.04)
    assert ours([student, student], [teacher]).item() == pytest.approx(60)
    assert ours([one_hot, one_hot], [one_hot]).isfinite()


def test_listing_dino_warm_up_does_not_warm_up():
    def temperature(model, step, gap=0.05):  # read from the loss: P_t = sigmoid(gap / τ) = p
        model.global_step, model.center = step, torch.zeros(2)
        teacher = torch.eye(2) * gap  # both outputs have one mean, so the centre cancels
        loss = model.dino_loss(torch.eye(2) * 0.1, teacher).item()  # log(1 + e) − p
        p = math.log(1 + math.e) - loss
        return gap / math.log(p / (1 - p))

    default = listing(width=2)
    assert temperature(default, 0) == pytest.approx(0.04, rel=1e-2)
    assert temperature(default, 1000) == pytest.approx(0.04, rel=1e-2)
    jumps = listing(width=2, warmup_teacher_temp=0.2, teacher_temp=0.4)
    values = [temperature(jumps, s) for s in (0, 29, 30, 100)]
    assert values == pytest.approx([0.2, 0.2, 0.4, 0.4], rel=1e-3)
    ours = DINOLoss(2, warmup_teacher_temp=0.2, teacher_temp=0.4, warmup_steps=30)
    assert [ours.temperature(s) for s in (0, 15, 30)] == pytest.approx([0.2, 0.3, 0.4])


def test_listing_dino_counts_the_warm_up_in_iterations():
    # 30 epochs of DINO's ImageNet run (batch 1,024) are 37,530 steps; the listing's 30 are one.
    steps = 30 * (1_281_167 // 1024)
    loss = DINOLoss(4, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_steps=steps)
    assert loss.temperature(30) == pytest.approx(0.04, abs=1e-4)
    assert steps / 30 > 1000


def test_listing_dino_uses_the_centre_that_this_batch_has_moved():
    torch.manual_seed(0)
    teacher = torch.tensor([[10.0, 0.0]])
    model = listing(width=2, step=0)
    model.dino_loss(torch.zeros(1, 2), teacher)
    assert torch.allclose(model.center, torch.tensor([1.0, 0.0]))
    # A batch of one image moves the first centre by a tenth of its own scores; DINO's is 0.
    student = torch.zeros(1, 2)
    loss = DINOLoss(2, teacher_temp=1.0, student_temp=1.0, warmup_teacher_temp=1.0)
    p = loss.probabilities(teacher)
    listed = F.softmax(teacher - model.center, dim=1)
    assert p[0, 1] == pytest.approx(1 / (1 + math.e**10), rel=1e-3)
    assert listed[0, 1] == pytest.approx(1 / (1 + math.e**9), rel=1e-3)
    loss([student, student], [teacher])
    assert torch.allclose(loss.center, torch.tensor([1.0, 0.0]))


def test_listing_dino_centres_part_between_ranks():
    scores = normal(0, 8, 6).float()
    ranks = [listing(step=0) for _ in range(2)]
    centers = [m.center_momentum(part) for m, part in zip(ranks, scores.split(4), strict=True)]
    whole = 0.1 * scores.mean(0)
    assert (centers[0] - centers[1]).abs().max() > 0.01
    assert torch.allclose((centers[0] + centers[1]) / 2, whole, atol=1e-6)
    # test_two_ranks_share_one_centre_and_one_sinkhorn: ours are equal on both


def test_listing_dino_has_none_of_dinov2s_parts():
    model = listing()
    words = " ".join(vars(model)) + " ".join(vars(Listing))
    assert not any(part in words.lower() for part in ("ibot", "patch", "koleo", "sinkhorn", "mask"))
    assert model.momentum == 0.996  # and no schedule moves it
    assert momentum_schedule(1000, 1000) == 1.0
    ours = DINO(
        small_vit(),
        DINOHead(24, 12, 20, 8),
        DINOLoss(12, centering="sinkhorn_knopp"),
        patch_head=DINOHead(24, 12, 20, 8),
        patch_loss=iBOTLoss(12, centering="sinkhorn_knopp"),
        koleo_weight=0.1,
    )
    terms = ours(images(0, 2, 4), mask=blob_masks(8, (4, 4), seeded(0), share=(0.2, 0.5)))
    assert min(terms.ibot, terms.koleo.abs()) > 0
    assert terms.total == terms.dino + terms.ibot + 0.1 * terms.koleo


