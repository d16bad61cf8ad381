"""123.2c: replicas behind a balancer, a fleet that grows, and batches of a language model."""

import math

import numpy as np
import pytest
import torch

from dlcourse.ml_system_design import (
    SMOLLM2_135M,
    BatcherFull,
    CacheFull,
    ContinuousBatcher,
    Decoder,
    DecoderConfig,
    FleetState,
    KVCache,
    StaticBatcher,
    by_requests,
    by_utilisation,
    erlang_c,
    erlang_c_wait,
    generate,
    poisson_arrivals,
    pollaczek_khinchine_wait,
    replicas_needed,
    rotate,
    simulate_fleet,
    simulate_queue,
    simulate_replicas,
    stabilised,
)

POLICIES = ("random", "round robin", "two choices", "shortest queue")


# Replicas


@pytest.mark.parametrize("policy", POLICIES)
def test_one_replica_is_the_single_queue_of_the_section_before(policy):
    rng = np.random.default_rng(3)
    t = np.sort(rng.uniform(0, 50, 300))
    fixed = simulate_replicas(t, np.full(300, 0.2), 1, policy)
    np.testing.assert_allclose(fixed, simulate_queue(t, lambda n: 0.2, 1).sojourn)


def by_hand(t, s, assigned, replicas):
    """Request by request at each replica, the slow way."""
    out = np.empty(len(t))
    for k in range(replicas):
        free = -math.inf
        for i in np.flatnonzero(assigned == k):
            free = max(free, t[i]) + s[i]
            out[i] = free - t[i]
    return out


def test_round_robin_is_every_nth_request_at_its_own_queue():
    rng = np.random.default_rng(0)
    t, s = np.sort(rng.uniform(0, 20, 200)), rng.exponential(0.3, 200)
    found = simulate_replicas(t, s, 3, "round robin")
    np.testing.assert_allclose(found, by_hand(t, s, np.arange(200) % 3, 3))


def test_the_shortest_queue_is_found_by_counting_who_is_inside():
    rng = np.random.default_rng(1)
    t, s = np.sort(rng.uniform(0, 20, 150)), rng.exponential(0.5, 150)
    found = simulate_replicas(t, s, 4, "shortest queue", seed=0)
    # From the times that came out, each request went where nobody had fewer inside.
    ends = t + found
    for i in range(150):
        inside_before = np.sum((t[:i] <= t[i]) & (ends[:i] > t[i]))
        if inside_before < 4:  # some replica is empty, so nobody waits
            assert found[i] == pytest.approx(s[i])


def test_random_splitting_is_n_independent_queues_with_the_formulas_wait():
    waits = []
    for seed in range(5):
        t = poisson_arrivals(8 * 0.8, 20_000, seed)
        waits.append(simulate_replicas(t, np.ones(20_000), 8, "random", seed=seed).mean() - 1)
    exact = pollaczek_khinchine_wait(0.8, 1.0)
    assert abs(np.mean(waits) - exact) < 4 * np.std(waits, ddof=1) / 5**0.5
    assert exact == pytest.approx(2.0)


def test_no_policy_beats_one_shared_queue_and_two_choices_beat_one():
    means = {policy: [] for policy in POLICIES}
    for seed in range(5):
        rng = np.random.default_rng([5, seed])
        t, s = poisson_arrivals(8 * 0.9, 20_000, rng), rng.exponential(1.0, 20_000)
        for policy in POLICIES:
            means[policy].append((simulate_replicas(t, s, 8, policy, seed=seed) - s).mean())
    bound = erlang_c_wait(8, 7.2, 1.0)
    assert all(np.mean(m) > bound for m in means.values())
    assert max(means["two choices"]) < min(means["random"])
    assert np.mean(means["shortest queue"]) < np.mean(means["two choices"])


def test_an_old_look_sends_all_to_the_same_replica():
    t, s = np.linspace(0, 0.9, 10), np.full(10, 5.0)
    fresh = simulate_replicas(t, s, 10, "shortest queue", seed=0)
    np.testing.assert_allclose(fresh, 5.0)
    old = simulate_replicas(t, s, 2, "shortest queue", stale=100.0, seed=0)
    # Nothing is known of the ten: both replicas look empty all the time, ties are drawn.
    assert old.max() > 20


@pytest.mark.parametrize("n, load, expected", [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9)])
def test_erlang_c_has_the_values_of_the_textbook(n, load, expected):
    assert erlang_c(n, load) == pytest.approx(expected)
    direct = load**n / math.factorial(n) / (1 - load / n)
    direct /= sum(load**k / math.factorial(k) for k in range(n)) + direct
    assert erlang_c(n, load) == pytest.approx(direct)


def test_erlang_c_does_not_overflow_and_one_server_is_m_m_1():
    assert 0 < erlang_c(1000, 950.0) < 1
    assert erlang_c_wait(1, 0.9, 1.0) == pytest.approx(0.9 / 0.1)


@pytest.mark.parametrize("rate, mean, most", [(7.2, 1.0, 0.5), (0.1, 1.0, 5.0), (100, 0.2, 0.01)])
def test_the_replicas_needed_are_enough_and_one_less_are_not(rate, mean, most):
    n = replicas_needed(rate, mean, most)
    assert erlang_c_wait(n, rate, mean) <= most
    if n - 1 > rate * mean:
        assert erlang_c_wait(n - 1, rate, mean) > most


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"arrivals": [1.0, 0.0]}, ValueError, "sort them"),
        ({"arrivals": ["a", "b"]}, TypeError, "real numbers"),
        ({"services": [1.0]}, ValueError, "one for each"),
        ({"services": [1.0, -1.0]}, ValueError, "at least 0"),
        ({"services": [1.0, np.nan]}, ValueError, "finite"),
        ({"replicas": 0}, ValueError, "at least 1"),
        ({"replicas": 1.5}, TypeError, "whole number"),
        ({"policy": "best"}, ValueError, "one of random"),
        ({"stale": -1.0}, ValueError, "stale"),
    ],
)
def test_what_is_no_fleet_is_refused(change, error, message):
    arguments = {"arrivals": [0.0, 1.0], "services": [1.0, 1.0], "replicas": 2, "policy": "random"}
    with pytest.raises(error, match=message):
        simulate_replicas(**{**arguments, **change})


@pytest.mark.parametrize("call", [lambda: erlang_c(2, 2.0), lambda: erlang_c_wait(2, 3.0, 1.0)])
def test_a_load_without_end_is_refused(call):
    with pytest.raises(ValueError, match="without end"):
        call()


# A fleet that grows


def test_a_fleet_that_is_never_changed_is_a_shared_queue():
    t = poisson_arrivals(3.0, 400, 0)
    found = simulate_fleet(t, 1.0, lambda state: 4, first=4).sojourn
    free, expected = [-math.inf] * 4, []
    for now in t:
        k = int(np.argmin(free))
        free[k] = max(free[k], now) + 1.0
        expected.append(free[k] - now)
    np.testing.assert_allclose(found, expected)


def test_a_new_replica_is_ready_after_its_start_and_not_before():
    # Two requests at 1 s: one waits for the other, or for the second replica at 5 + start_up.
    t = np.array([1.0, 1.0])
    asked = lambda state: 2  # noqa: E731
    slow = simulate_fleet(t, 20.0, asked, first=1, start_up=3.0, every=5.0).sojourn
    np.testing.assert_allclose(slow, [20.0, 7.0 + 20.0])
    never = simulate_fleet(t, 20.0, asked, first=1, start_up=300.0, every=5.0).sojourn
    np.testing.assert_allclose(never, [20.0, 40.0])


def test_a_replica_that_is_called_off_while_it_starts_never_comes():
    wishes = iter([3, 1] + [1] * 100)
    times = simulate_fleet(
        np.array([1.0, 1.0]), 40.0, lambda state: next(wishes), start_up=8.0, every=5.0
    )
    np.testing.assert_allclose(times.sojourn, [40.0, 80.0])
    assert [look.replicas for look in times.looks[:3]] == [1, 3, 1]


def test_a_fleet_shrinks_when_its_replicas_are_idle():
    times = simulate_fleet(np.array([0.0, 30.0]), 1.0, lambda state: 1, first=5)
    assert times.looks[-1].ready == 1 and times.sojourn.max() == 1.0


def test_utilisation_can_not_see_a_queue_and_requests_can():
    state = FleetState(time=0.0, replicas=10, ready=10, inside=200, busy=1.0)
    assert by_utilisation(0.7)(state) == 15
    assert by_requests(0.7)(state) == 286
    starting = FleetState(time=0.0, replicas=15, ready=10, inside=200, busy=1.0)
    assert by_utilisation(0.7)(starting) == 15  # those on their way are not asked for again
    calm = FleetState(time=0.0, replicas=10, ready=10, inside=7, busy=0.7)
    assert by_utilisation(0.7)(calm) == 10 and by_requests(0.7)(calm) == 10


def test_a_stabilised_wish_goes_up_at_once_and_down_after_its_looks():
    wanted = stabilised(lambda state: state.inside, 3)
    inside = [5, 9, 1, 1, 1, 2]
    found = [wanted(FleetState(0.0, 1, 1, n, 1.0)) for n in inside]
    assert found == [5, 9, 9, 9, 1, 2]


# A language model

CONFIG = DecoderConfig(vocabulary=50, width=32, layers=2, heads=4, kv_heads=2, hidden=48)


@pytest.fixture(scope="module")
def model():
    return Decoder(CONFIG, seed=1).eval()


def prompts(seed, count, most=12):
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, most, (count,), generator=g).tolist()
    return [torch.randint(CONFIG.vocabulary, (n,), generator=g) for n in lengths]


def test_rotation_keeps_lengths_and_makes_products_depend_on_the_distance():
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=g)
    at = lambda x, p: rotate(x, torch.tensor([[p]]))  # noqa: E731
    assert torch.allclose(at(q, 7).norm(), q.norm())
    near = (at(q, 9) * at(k, 4)).sum()
    assert torch.allclose(near, (at(q, 105) * at(k, 100)).sum(), atol=1e-4)
    assert not torch.allclose(near, (at(q, 9) * at(k, 5)).sum(), atol=1e-3)
    assert torch.allclose(at(q, 0), q)


@torch.no_grad()
def test_a_token_does_not_see_what_comes_after_it(model):
    x = prompts(1, 1)[0].repeat(3)[None]
    changed = x.clone()
    changed[0, -1] = (changed[0, -1] + 1) % CONFIG.vocabulary
    assert torch.equal(model(x)[:, :-1], model(changed)[:, :-1])


@torch.no_grad()
@pytest.mark.parametrize("seed", range(5))
def test_logits_with_a_cache_are_those_of_all_tokens_read_anew(model, seed):
    tokens = torch.cat(prompts(seed, 4))
    cache = KVCache(CONFIG, 3, 64)
    cache.take()  # another slot than the first
    slot = torch.tensor([cache.take()])
    cut = [0, *sorted({1 + seed, len(tokens) // 2, len(tokens)})]
    for a, b in zip(cut, cut[1:]):  # in pieces of several lengths
        got = model(tokens[None, a:b], cache, slot)
        assert torch.allclose(got, model(tokens[None, :b])[:, -1], atol=1e-5)
    assert cache.lengths[slot].item() == len(tokens)


@torch.no_grad()
def test_agrees_with_transformers_llama_on_the_same_weights(model):
    transformers = pytest.importorskip("transformers")
    c = CONFIG
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=c.vocabulary, hidden_size=c.width, intermediate_size=c.hidden,
            num_hidden_layers=c.layers, num_attention_heads=c.heads,
            num_key_value_heads=c.kv_heads, rms_norm_eps=1e-5, tie_word_embeddings=True,
            max_position_embeddings=128,
        )
    ).eval()  # fmt: skip
    renamed = {"model.embed_tokens.weight": model.embedding.weight,
               "model.norm.weight": model.norm.weight}  # fmt: skip
    for i, block in enumerate(model.blocks):
        at = f"model.layers.{i}."
        renamed |= {
            f"{at}input_layernorm.weight": block.norm1.weight,
            f"{at}post_attention_layernorm.weight": block.norm2.weight,
            f"{at}self_attn.q_proj.weight": block.query.weight,
            f"{at}self_attn.k_proj.weight": block.key.weight,
            f"{at}self_attn.v_proj.weight": block.value.weight,
            f"{at}self_attn.o_proj.weight": block.out.weight,
            f"{at}mlp.gate_proj.weight": block.gate.weight,
            f"{at}mlp.up_proj.weight": block.up.weight,
            f"{at}mlp.down_proj.weight": block.down.weight,
        }
    missing = theirs.load_state_dict(renamed, strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}  # tied to the embedding
    theirs.tie_weights()
    x = torch.stack([p[:5] for p in prompts(2, 30) if len(p) >= 5])
    assert torch.allclose(theirs(x).logits, model(x), atol=1e-4)


@pytest.mark.parametrize("kind", [ContinuousBatcher, StaticBatcher])
@pytest.mark.parametrize("seed", range(3))
def test_in_a_batch_each_request_gets_the_tokens_that_it_gets_alone(model, kind, seed):
    batcher = kind(model, max_batch=3, max_length=40)
    counts = [1 + (7 * i + seed) % 20 for i in range(11)]
    requests = [batcher.submit(p, n) for p, n in zip(prompts(seed, 11), counts)]
    done = batcher.run()
    assert sorted(map(id, done)) == sorted(map(id, requests))
    for request, count in zip(requests, counts):
        assert request.tokens == generate(model, request.prompt, count).tolist()
    assert batcher.cache.num_free == 3 and not batcher.batch


def test_a_token_that_ends_the_answer_frees_the_slot_at_once(model):
    prompt = prompts(0, 1)[0]
    alone = generate(model, prompt, 20).tolist()
    batcher = ContinuousBatcher(model, 1, 40)
    request = batcher.submit(prompt, 20, end=alone[3])
    batcher.run()
    assert request.tokens == alone[: alone.index(alone[3]) + 1]


def test_continuous_batching_needs_fewer_steps_where_lengths_differ(model):
    counts = [1, 20, 1, 20, 1, 20, 1, 20]
    steps = {}
    for kind in (ContinuousBatcher, StaticBatcher):
        batcher = kind(model, 2, 40)
        for prompt, count in zip(prompts(4, 8), counts):
            batcher.submit(prompt, count)
        batcher.run()
        steps[kind] = batcher.steps
    # Static: four pairs of 19 steps each after the first tokens. Continuous: 76 tokens in twos.
    assert steps[StaticBatcher] == 4 * 19
    assert steps[ContinuousBatcher] < 0.7 * steps[StaticBatcher]


def test_memory_is_taken_at_the_start_and_a_full_queue_is_refused(model):
    batcher = ContinuousBatcher(model, max_batch=2, max_length=16, max_waiting=3)
    assert batcher.cache.nbytes == 2 * 2 * 2 * 16 * 2 * 8 * 4  # k and v, layers, slots, …, float32
    before = batcher.cache.keys.data_ptr()
    for prompt in prompts(5, 3, most=5):
        batcher.submit(prompt, 4)
    with pytest.raises(BatcherFull, match="3 requests wait"):
        batcher.submit(prompts(5, 1)[0], 4)
    batcher.run()
    assert batcher.cache.keys.data_ptr() == before and batcher.cache.num_free == 2


@pytest.mark.parametrize(
    "prompt, count, message",
    [
        (torch.zeros(0, dtype=torch.int64), 1, "shape"),
        (torch.zeros(3), 1, "int64"),
        (torch.zeros(2, 2, dtype=torch.int64), 1, "shape"),
        (torch.tensor([50]), 1, r"\[0, 50\)"),
        (torch.tensor([-1]), 1, r"\[0, 50\)"),
        (torch.tensor([1]), 0, "at least 1"),
        (torch.tensor([1] * 10), 7, "at most 16"),
    ],
)
def test_requests_that_do_not_fit_are_refused(model, prompt, count, message):
    with pytest.raises(ValueError, match=message):
        ContinuousBatcher(model, 2, 16).submit(prompt, count)


def test_slots_are_given_once_and_taken_back_once():
    cache = KVCache(CONFIG, 2, 8)
    a, b = cache.take(), cache.take()
    assert {a, b} == {0, 1}
    with pytest.raises(CacheFull, match="all 2 slots"):
        cache.take()
    cache.give_back(a)
    with pytest.raises(ValueError, match="not taken"):
        cache.give_back(a)
    assert cache.take() == a


@torch.no_grad()
def test_a_slot_that_is_given_again_shows_nothing_of_the_one_before(model):
    batcher = ContinuousBatcher(model, 1, 40)
    long, short = torch.arange(30), torch.tensor([4, 2])
    batcher.submit(long, 5), batcher.run()
    request = batcher.submit(short, 5)
    batcher.run()
    assert request.tokens == generate(model, short, 5).tolist()


@torch.no_grad()
def test_the_decoder_refuses_what_it_can_not_read(model):
    cache = KVCache(CONFIG, 1, 4)
    with pytest.raises(ValueError, match="int64"):
        model(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="neither"):
        model(torch.zeros(1, 1, dtype=torch.int64), cache)
    with pytest.raises(ValueError, match="slots must have shape"):
        model(torch.zeros(1, 1, dtype=torch.int64), cache, torch.tensor([0, 0]))
    with pytest.raises(CacheFull, match="room for 4"):
        model(torch.zeros(1, 5, dtype=torch.int64), cache, torch.tensor([0]))


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"width": 30}, "even multiple"),
        ({"kv_heads": 3}, "multiple of kv_heads"),
        ({"layers": 0}, "at least 1"),
    ],
)
def test_sizes_that_do_not_divide_each_other_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**sizes)


def weights_of(c):
    block = c.width * c.head * (2 * c.heads + 2 * c.kv_heads) + 3 * c.width * c.hidden + 2 * c.width
    return c.vocabulary * c.width + c.layers * block + c.width


def test_the_large_shape_has_the_weights_of_smollm2(model):
    assert weights_of(CONFIG) == sum(p.numel() for p in model.parameters())
    assert weights_of(SMOLLM2_135M) == 134_515_008
