"""Mixed precision (119.1c): MixedPrecision against loops written by hand.

16-bit matrix products are slow on most CPUs, so everything here is tiny.
"""

import copy
import math
import warnings

import pytest
import torch
from torch import nn

from dlcourse.large_scale_training import Lion, MixedPrecision, underflow_fraction

mse = nn.functional.mse_loss


def make(optimizer=torch.optim.SGD, lr=0.1, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    return model, optimizer(model.parameters(), lr=lr)


def batch(n=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator), torch.randn(n, 2, generator=generator)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Poisoned(nn.Module):
    """The product of input and weight, with an infinite gradient when ``poison`` is set."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.poison = False

    def forward(self, x):
        y = x * self.weight
        if self.poison:
            y.register_hook(lambda g: g * math.inf)
        return y


# --- values ------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, Lion])
def test_float32_step_is_the_plain_loop(optimizer):
    model, opt = make(optimizer, 1e-2)
    plain, plain_opt = make(optimizer, 1e-2)
    amp = MixedPrecision(torch.float32, max_grad_norm=0.5)
    for seed in range(10):
        x, y = batch(seed=seed)
        loss = amp.step(model, opt, mse, x, y)
        plain_opt.zero_grad()
        expected = mse(plain(x), y)
        expected.backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        plain_opt.step()
        assert loss == expected.item()
        assert amp.grad_norm == norm.item()
    assert torch.equal(weights(model), weights(plain))


def test_bfloat16_step_is_the_plain_autocast_loop_without_a_scaler():
    model, opt = make()
    plain, plain_opt = make()
    amp = MixedPrecision(torch.bfloat16)
    for seed in range(3):
        x, y = batch(seed=seed)
        loss = amp.step(model, opt, mse, x, y)
        plain_opt.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            expected = mse(plain(x), y)
        expected.backward()
        plain_opt.step()
        assert loss == expected.item()
    assert torch.equal(weights(model), weights(plain))
    assert amp.scale == 1.0


def test_float16_step_is_the_float32_step_up_to_rounding():
    x, y = batch()
    results = []
    for dtype in (torch.float16, torch.float32):
        model, opt = make()
        MixedPrecision(dtype, max_grad_norm=0.1).step(model, opt, mse, x, y)
        results.append(weights(model))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


def test_the_model_computes_in_the_asked_type_and_the_loss_in_float32():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model, opt = make()

        def loss_fn(output, target, dtype=dtype):
            assert output.dtype == dtype
            loss = mse(output, target)
            assert loss.dtype == torch.float32
            return loss

        MixedPrecision(dtype).step(model, opt, loss_fn, *batch())
        assert all(p.dtype == torch.float32 for p in model.parameters())
        assert all(p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("dtype, update", [(torch.bfloat16, 1e-3), (torch.float16, 2e-4)])
def test_master_weights_keep_updates_that_16_bits_lose(dtype, update):
    weight, master = torch.ones((), dtype=dtype), torch.ones(())
    for _ in range(100):
        weight -= update
        master -= update
    assert weight == 1  # each update is under half the distance to the next number
    assert master.item() == pytest.approx(1 - 100 * update, abs=1e-5)


# --- the scale, clipping, skipping -------------------------------------------------


def test_clipping_sees_the_true_gradient():
    x, y = batch()
    norms = {}
    for dtype in (torch.float32, torch.float16):
        model, opt = make()
        amp = MixedPrecision(dtype, max_grad_norm=1e-3)
        amp.step(model, opt, mse, x, y)
        norms[dtype] = amp.grad_norm
        applied = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        assert applied.item() == pytest.approx(1e-3, rel=1e-3)
    assert norms[torch.float16] == pytest.approx(norms[torch.float32], rel=1e-2)


def test_an_infinite_gradient_skips_the_step_and_halves_the_scale():
    model = Poisoned()
    opt = torch.optim.AdamW(model.parameters())
    amp = MixedPrecision(torch.float16)
    x, y = torch.randn(4, 3), torch.randn(4, 3)
    amp.step(model, opt, mse, x, y)
    before, scale = model.weight.clone(), amp.scale
    assert not amp.skipped and scale == 2.0**16

    model.poison = True
    amp.step(model, opt, mse, x, y)
    assert amp.skipped and amp.skipped_steps == 1
    assert amp.scale == scale / 2
    assert torch.equal(model.weight, before)
    assert opt.state[model.weight]["step"] == 1  # the optimizer did not count it either

    model.poison = False
    amp.step(model, opt, mse, x, y)
    assert not amp.skipped and not torch.equal(model.weight, before)


def test_a_schedule_that_skips_with_the_step_stays_with_the_optimizer():
    model = Poisoned()
    opt = torch.optim.AdamW(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda k: 1 / (1 + k))
    amp = MixedPrecision(torch.float16)
    for poison in (False, True, True, False):
        model.poison = poison
        amp.step(model, opt, mse, torch.randn(4, 3), torch.randn(4, 3))
        if not amp.skipped:
            schedule.step()
    assert amp.skipped_steps == 2
    assert opt.state[model.weight]["step"] == 2
    assert opt.param_groups[0]["lr"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_accumulation_equals_the_big_batch(dtype):
    x, y = batch(12)
    whole, whole_opt = make()
    parts, parts_opt = make()
    loss = MixedPrecision(dtype, 0.5).step(whole, whole_opt, mse, x, y)
    split = MixedPrecision(dtype, 0.5, micro_batches=4).step(parts, parts_opt, mse, x, y)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-3
    assert split == pytest.approx(loss, rel=tolerance)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=tolerance, atol=tolerance)


def test_a_reloaded_state_continues_with_the_same_scale():
    model = Poisoned()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    amp = MixedPrecision(torch.float16)
    model.poison = True
    for _ in range(3):
        amp.step(model, opt, mse, torch.randn(4, 3), torch.randn(4, 3))
    again = MixedPrecision(torch.float16)
    again.load_state_dict(copy.deepcopy(amp.state_dict()))
    assert again.scale == amp.scale == 2.0**13 and again.skipped_steps == 3
    model.poison = False
    again.step(model, opt, mse, torch.randn(4, 3), torch.randn(4, 3))
    assert again.scale == 2.0**13
    with pytest.raises(ValueError, match="loss scale"):
        MixedPrecision(torch.bfloat16).load_state_dict(amp.state_dict())


def test_a_nan_for_hundreds_of_steps_raises_and_leaves_the_weights_alone():
    """A scale halved 166 times is 0: it could fall no more, and the next finite batch wrote NaN."""
    model, opt = make(torch.optim.AdamW)
    amp = MixedPrecision(torch.float16)
    x, y = batch()
    amp.step(model, opt, mse, x, y)
    before, raised = weights(model), 0
    for call in range(1, 301):
        try:
            amp.step(model, opt, mse, x * math.nan, y)
        except FloatingPointError as error:
            raised += 1
            assert "steps were skipped" in str(error) and "NaN in the data" in str(error)
        assert amp.skipped and amp.skipped_steps == call
    assert raised == 300 - 29  # from 2^16 down to 2^-13, the last power of two above 1e-4
    assert amp.scale == 2.0**-13
    assert torch.equal(weights(model), before)
    amp.step(model, opt, mse, x, y)  # finite again
    assert not amp.skipped and weights(model).isfinite().all()
    assert not torch.equal(weights(model), before)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("limit", [None, 1.0])
def test_skipping_is_read_from_what_the_scaler_found(fused, limit):
    """Also where the optimizer is called all the same and skips inside (fused)."""
    model, _ = make()
    opt = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    amp = MixedPrecision(torch.float16, limit)
    x, y = batch()
    for poison in (False, True, False, True, True, False):
        before = weights(model)
        amp.step(model, opt, mse, x * (math.inf if poison else 1), y)
        assert amp.skipped == poison == torch.equal(weights(model), before)
    assert amp.skipped_steps == 3


def test_a_scale_that_had_underflowed_is_not_loaded():
    amp = MixedPrecision(torch.float16)
    state = copy.deepcopy(amp.state_dict())
    for scale in (0.0, math.nan, math.inf):
        state["scaler"]["scale"] = scale
        with pytest.raises(ValueError, match="the saved loss scale is"):
            amp.load_state_dict(state)
        assert amp.scale == 2.0**16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_clipping_and_zeroing_are_for_what_the_optimizer_holds(dtype):
    """The body's gradients, never zeroed by a head's optimizer, do not count in the head's norm."""
    x, y = batch()
    whole, _ = make()
    head = torch.optim.SGD(whole[2].parameters(), lr=0.1)
    alone = copy.deepcopy(whole)
    alone[0].requires_grad_(False)
    alone_opt = torch.optim.SGD(alone[2].parameters(), lr=0.1)
    amp, alone_amp = MixedPrecision(dtype, 1e-2), MixedPrecision(dtype, 1e-2)
    for _ in range(30):
        amp.step(whole, head, mse, 30 * x, y)
        alone_amp.step(alone, alone_opt, mse, 30 * x, y)
        assert amp.grad_norm == alone_amp.grad_norm
    assert torch.equal(weights(whole), weights(alone)) and weights(whole).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_two_optimizers_on_one_model_do_not_meet(dtype):
    """One steps the body, then the other the head; each as if the rest were frozen."""
    x, y = batch()
    together, _ = make()
    apart = copy.deepcopy(together)
    opts = [torch.optim.SGD(together[i].parameters(), lr=0.1) for i in (0, 2)]
    frozen_opts = [torch.optim.SGD(apart[i].parameters(), lr=0.1) for i in (0, 2)]
    amps = [MixedPrecision(dtype, 0.5) for _ in range(2)]
    frozen_amps = [MixedPrecision(dtype, 0.5) for _ in range(2)]
    for step in range(10):
        i = step % 2
        amps[i].step(together, opts[i], mse, x, y)
        apart[0].requires_grad_(i == 0), apart[2].requires_grad_(i == 1)
        frozen_amps[i].step(apart, frozen_opts[i], mse, x, y)
    assert torch.equal(weights(together), weights(apart))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_optimizer_without_a_gradient_is_refused_in_every_type(dtype):
    model, _ = make()
    stranger = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="none of the 2 parameters of SGD got a gradient"):
        MixedPrecision(dtype).step(model, stranger, mse, *batch())


@pytest.mark.parametrize("limit", [None, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_parts_with_ignored_targets_weigh_what_they_count(dtype, limit):
    """Targets of -100 are padding: the mean of the parts' means is another loss."""
    x, _ = batch(12)
    y = torch.tensor([0, 1, 1, -100, -100, 0, -100, -100, -100, -100, -100, -100])
    loss_fn = nn.CrossEntropyLoss()
    count = lambda targets: (targets != -100).sum()  # noqa: E731
    whole, whole_opt = make()
    parts, parts_opt = make()
    loss = MixedPrecision(dtype, limit).step(whole, whole_opt, loss_fn, x, y)
    amp = MixedPrecision(dtype, limit, micro_batches=4, count=count)
    assert amp.step(parts, parts_opt, loss_fn, x, y) == pytest.approx(loss, rel=1e-3)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-3, atol=1e-4)

    unaware = MixedPrecision(dtype, limit, micro_batches=4)
    for either in (loss_fn, nn.functional.cross_entropy):
        with pytest.raises(ValueError, match=r"some targets are -100.*count=lambda"):
            unaware.step(parts, parts_opt, either, x, y)
    with pytest.raises(ValueError, match="no target of the batch counts"):
        amp.step(parts, parts_opt, loss_fn, x, torch.full_like(y, -100))


# --- what underflows ---------------------------------------------------------------


def test_small_gradients_vanish_in_float16_and_not_in_bfloat16():
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(0)) * 1e-8
    assert underflow_fraction(values, torch.float16) == pytest.approx(0.997, abs=1e-3)
    assert underflow_fraction(values, torch.bfloat16) == 0.0
    assert underflow_fraction(values, torch.float16, scale=2.0**16) < 1e-4
    # the border is half of the smallest subnormal, 2^-24
    border = 2.0**-25
    around = torch.tensor([border * 0.99, border * 1.01, 0.0])
    assert underflow_fraction(around, torch.float16) == 0.5


# --- refusals ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_parameters_are_refused_with_the_remedy(dtype):
    model, _ = make()
    model.to(dtype)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"parameter 0\.weight is .*model\.float\(\)"):
        MixedPrecision(torch.float16).step(model, opt, mse, *batch())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_frozen_16_bit_base_is_taken(dtype):
    """It gets no updates, so that none are rounded away."""
    model, _ = make()
    model[0].to(dtype).requires_grad_(False)
    opt = torch.optim.SGD(model[2].parameters(), lr=0.1)
    base, head = model[0].weight.clone(), model[2].weight.clone()
    MixedPrecision(dtype, 1.0).step(model, opt, mse, *batch())
    assert torch.equal(model[0].weight, base) and not torch.equal(model[2].weight, head)


def test_an_optimizer_that_needs_a_closure_is_refused():
    model, opt = make(torch.optim.LBFGS)
    with pytest.raises(TypeError, match="LBFGS .* closure"):
        MixedPrecision(torch.float32).step(model, opt, mse, *batch())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(dtype=torch.float64), "dtype must be one of"),
        (dict(dtype=torch.float32, max_grad_norm=0.0), "max_grad_norm must be above 0"),
        (dict(dtype=torch.float32, micro_batches=0), "micro_batches must be at least 1"),
    ],
)
def test_settings_without_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixedPrecision(**arguments)


def test_a_batch_that_cannot_be_split_evenly_is_refused():
    model, opt = make()
    with pytest.raises(ValueError, match=r"\[8, 8\] cannot be split into 3"):
        MixedPrecision(torch.float32, micro_batches=3).step(model, opt, mse, *batch(8))
    with pytest.raises(ValueError, match="all values are 0"):
        underflow_fraction(torch.zeros(3), torch.float16)


# --- the listing -------------------------------------------------------------------


def listing_step(model, optimizer, scaler, x):
    """The listing's order: no zero_grad, and the loss sees the output only."""
    loss = model(x).square().mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


def test_listing_mixed_precision_never_zeroes_gradients_and_mixes_scaled_with_unscaled():
    model = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # weights, and so gradients, stay
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    x = torch.randn(5, 3)
    listing_step(model, optimizer, scaler, x)
    gradient = model.weight.grad.clone()
    listing_step(model, optimizer, scaler, x)
    # unscaled old + scaled new, all divided by the scale: the old counts a quarter
    torch.testing.assert_close(model.weight.grad, gradient * (1 + 1 / 4))

    amp = MixedPrecision(torch.float32)
    for _ in range(2):
        amp.step(model, optimizer, lambda out: out.square().mean(), x)
        torch.testing.assert_close(model.weight.grad, gradient)


def test_listing_mixed_precision_scales_bfloat16_which_needs_no_scale():
    gradients = torch.randn(10_000) * 1e-20
    assert underflow_fraction(gradients, torch.bfloat16) == 0.0
    listing = torch.amp.GradScaler("cpu")  # made whatever the dtype
    assert listing.is_enabled() and not MixedPrecision(torch.bfloat16)._scaler.is_enabled()


def test_listing_mixed_precision_clips_a_gradient_65536_times_too_long():
    x, y = batch()
    model, opt = make()
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(mse(model(x), y)).backward()
    wrong = nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()  # no unscale_ before it
    amp = MixedPrecision(torch.float32, max_grad_norm=1.0)
    model, opt = make()
    amp.step(model, opt, mse, x, y)
    assert wrong / amp.grad_norm == pytest.approx(2**16, rel=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU")
def test_listing_mixed_precision_does_nothing_without_cuda_and_is_deprecated():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scaler = torch.cuda.amp.GradScaler()
        with torch.cuda.amp.autocast(dtype=torch.bfloat16):
            output = nn.Linear(2, 2)(torch.ones(1, 2))
    assert any(issubclass(w.category, FutureWarning) for w in caught)
    assert not scaler.is_enabled() and output.dtype == torch.float32
    model, opt = make()
    outputs = []

    def loss_fn(output, target):
        outputs.append(output.dtype)
        return mse(output, target)

    MixedPrecision(torch.bfloat16).step(model, opt, loss_fn, *batch())
    assert outputs == [torch.bfloat16]


def test_listing_mixed_precision_has_no_target_for_the_loss():
    output = torch.randn(4, 2, requires_grad=True)
    with pytest.raises(TypeError, match="target"):
        nn.CrossEntropyLoss()(output)  # loss_fn(output), as the listing calls it
    model, opt = make()
    x, _ = batch(4)
    loss = MixedPrecision(torch.float32).step(
        model, opt, nn.CrossEntropyLoss(), x, torch.tensor([0, 1, 0, 1])
    )
    assert 0 < loss < 3


def test_listing_mixed_precision_does_not_say_that_a_step_was_skipped():
    """The listing returns the loss alone: a schedule stepped after each call runs ahead."""
    model = Poisoned()
    model.poison = True
    opt = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda k: 1 / (1 + k))
    scaler = torch.amp.GradScaler("cpu")
    opt.step()  # only so that the schedule does not complain of its order
    listing_step(model, opt, scaler, torch.randn(4, 3))
    schedule.step()
    assert torch.equal(model.weight, torch.ones(3)) and opt.param_groups[0]["lr"] == 0.5
    amp = MixedPrecision(torch.float16)
    amp.step(model, opt, mse, torch.randn(4, 3), torch.randn(4, 3))
    assert amp.skipped
