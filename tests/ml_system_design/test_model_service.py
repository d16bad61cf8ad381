"""Facts about the model service, its files and its queue: section 123.2a.

No test depends on how fast the machine is. The models below stop at a gate until the test opens it,
and time-outs and delays of an hour pass because the event loop's clock is moved.
"""

import asyncio
import dataclasses
import functools
import gc
import math
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlcourse.ml_system_design import (
    BadModelOutput,
    ModelError,
    ModelFileError,
    ModelService,
    ServiceClosed,
    ServiceError,
    ServiceFull,
    ServiceTimeout,
    content_key,
    load_model,
    poisson_arrivals,
    pollaczek_khinchine_wait,
    save_model,
    simulate_queue,
)

HOUR = 3600.0


class MovableLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be moved forward."""

    moved = 0.0

    def time(self):
        return super().time() + self.moved


def run(main):
    """Run a coroutine; one that hangs fails after 25 s of real time."""

    async def guarded():
        task = asyncio.current_task()
        stop = threading.Timer(25, loop.call_soon_threadsafe, [task.cancel, "it hangs"])
        stop.daemon = True
        stop.start()
        try:
            return await main
        finally:
            stop.cancel()

    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        loop = runner.get_loop()
        return runner.run(guarded())


async def pass_time(seconds):
    await settle()
    asyncio.get_running_loop().moved += seconds
    await settle()


async def settle():
    """Let everything happen that needs no other thread."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def tasks(service, requests):
    return [asyncio.create_task(service.submit(x)) for x in requests]


async def outcomes(awaitables):
    return await asyncio.gather(*awaitables, return_exceptions=True)


class Model:
    """Doubles its input; remembers the batches; waits at the gate when it is shut."""

    def __init__(self, gate_open=True):
        self.gate = threading.Event()
        self.batches = []
        self.threads = set()
        if gate_open:
            self.gate.set()

    def __call__(self, batch):
        self.threads.add(threading.get_ident())
        self.batches.append(batch.copy())
        assert self.gate.wait(20)
        return self.answer(batch)

    def answer(self, batch):
        return 2 * batch

    @property
    def sizes(self):
        return [len(batch) for batch in self.batches]

    def seen(self):
        """Every number that the model was given."""
        return sorted(x for batch in self.batches for x in batch.ravel().tolist())


async def held(service, model, x=-1.0):
    """Keep the model busy with one request, so that what comes next queues."""
    task = asyncio.create_task(service.submit(x))
    await until(lambda: model.batches)
    return task


def adds_up(stats):
    assert stats.waiting == 0 and stats.queue_length == 0
    assert stats.received == (
        stats.served + stats.refused + stats.failed + stats.timed_out + stats.cancelled
    )
    return stats


# Each request gets its answer


def test_each_of_2000_concurrent_requests_gets_its_own_answer_in_full_batches():
    model = Model()
    requests = [np.array([i, i + 0.5]) for i in range(2000)]

    async def main():
        async with ModelService(model, max_delay=0, max_queue=2000) as service:
            answers = await asyncio.gather(*tasks(service, requests))
            return answers, service.stats()

    answers, stats = run(main())
    np.testing.assert_array_equal(answers, 2 * np.array(requests))
    assert max(model.sizes) == 32 and sum(model.sizes) == 2000
    assert model.seen() == sorted(np.ravel(requests))  # each once
    assert [n * stats.batch_sizes[n] for n in (32, 16)] == [1984, 16]
    assert adds_up(stats).served == stats.received == 2000


@pytest.mark.parametrize("size", [1, 3, 7])
def test_no_batch_is_larger_than_the_maximum(size):
    model = Model()

    async def main():
        async with ModelService(model, max_batch_size=size) as service:
            await asyncio.gather(*tasks(service, range(100)))

    run(main())
    assert max(model.sizes) == size and sum(model.sizes) == 100


def test_the_model_runs_in_one_thread_that_is_not_the_event_loops():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_batch_size=2) as service:
            waiting = tasks(service, range(10))
            await until(lambda: model.batches)
            await settle()  # the loop is free although the model stands still
            model.gate.set()
            await asyncio.gather(*waiting)

    run(main())
    assert len(model.threads) == 1 and threading.get_ident() not in model.threads


def test_greedy_batching_takes_what_is_queued_when_the_model_is_free():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_batch_size=4, max_delay=0) as service:
            first = await held(service, model)  # alone: it waits for nobody
            rest = tasks(service, range(6))
            await settle()
            model.gate.set()
            await asyncio.gather(first, *rest)

    run(main())
    assert model.sizes == [1, 4, 2]
    assert model.batches[1].tolist() == [0, 1, 2, 3]  # oldest first


def test_a_batch_that_is_full_waits_no_longer_and_one_that_is_not_waits_max_delay():
    model = Model()

    async def main():
        async with ModelService(model, max_batch_size=3, max_delay=HOUR) as service:
            full = tasks(service, [1, 2])
            await pass_time(HOUR / 2)
            assert model.sizes == []
            full += tasks(service, [3])
            await asyncio.gather(*full)  # no further hour passes
            assert model.sizes == [3]
            lone = tasks(service, [4])
            await pass_time(HOUR / 2)
            lone += tasks(service, [5])
            await settle()
            assert model.sizes == [3]
            await pass_time(HOUR / 2 + 1)  # an hour after the oldest, not after the latest
            await asyncio.gather(*lone)

    run(main())
    assert model.sizes == [3, 2]


def test_requests_of_unlike_shape_or_dtype_are_batched_apart():
    model = Model(gate_open=False)
    kinds = [
        lambda i: np.float32(i), lambda i: np.float64(i), lambda i: np.full(2, float(i)),
        lambda i: np.full((1, 2), i), lambda i: np.array(i, dtype=">f4"),
    ]  # fmt: skip
    requests = [kind(i) for i in range(3) for kind in kinds]

    async def main():
        async with ModelService(model, max_delay=0) as service:
            first = await held(service, model, np.int8(0))
            rest = tasks(service, requests)
            await settle()
            model.gate.set()
            return (await asyncio.gather(first, *rest))[1:]

    answers = run(main())
    assert model.sizes == [1] + [3] * len(kinds)
    for request, answer in zip(requests, answers, strict=True):
        assert answer.shape == request.shape and (answer == 2 * request).all()
        assert answer.dtype == (2 * np.stack([request])).dtype


def test_the_oldest_request_goes_first_whatever_its_kind():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_batch_size=2, max_delay=HOUR) as service:
            many = tasks(service, range(2))
            await until(lambda: model.batches)
            rare = tasks(service, [[7.0, 7.0]])
            await pass_time(HOUR + 1)
            many += tasks(service, range(2, 6))  # full, and later
            await settle()
            model.gate.set()
            await asyncio.gather(*many, *rare)

    run(main())
    assert [batch.tolist() for batch in model.batches][:2] == [[0, 1], [[7.0, 7.0]]]


def test_greedy_batches_of_several_kinds_come_in_the_order_of_their_oldest_requests():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_delay=0) as service:
            first = await held(service, model)
            rest = tasks(service, [[1.0], [2.0], [[3.0]], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]])
            await settle()
            model.gate.set()
            await asyncio.gather(first, *rest)

    run(main())
    assert [batch.shape for batch in model.batches] == [(1,), (2, 1), (1, 1, 1), (3, 2)]


def test_other_threads_get_their_own_answers_too():
    model = Model()
    answers = {}

    async def main():
        async with ModelService(model, max_delay=0) as service:

            def client(number):
                for i in range(50):
                    answers[number, i] = float(service.predict(100.0 * number + i))

            await asyncio.gather(*(asyncio.to_thread(client, n) for n in range(8)))
            return service.stats()

    stats = run(main())
    assert answers == {(n, i): 200.0 * n + 2 * i for n in range(8) for i in range(50)}
    assert adds_up(stats).served == 400


def test_nan_is_passed_on_since_the_model_decides_what_it_means():
    async def main():
        async with ModelService(np.isnan) as service:
            twice = [await service.submit([1.0, math.nan]) for _ in range(2)]
            return twice, service.stats()

    twice, stats = run(main())
    assert [answer.tolist() for answer in twice] == [[False, True]] * 2
    assert stats.cache_hits == 1  # the key is of the bits, for which NaN equals NaN


# Cache, and joined requests


def test_an_equal_request_is_answered_from_the_cache_without_the_model():
    model = Model()

    async def main():
        async with ModelService(model, max_delay=0) as service:
            answers = [await service.submit([1.0, 2.0]) for _ in range(5)]
            return answers, service.stats()

    answers, stats = run(main())
    assert model.sizes == [1] and stats.cache_hits == 4 and adds_up(stats).served == 5
    assert all(answer.tolist() == [2.0, 4.0] for answer in answers)


def test_the_cache_forgets_what_was_not_used_for_the_longest_and_never_outgrows_its_size():
    model = Model()

    async def main():
        async with ModelService(model, max_delay=0, cache_size=3) as service:
            for x in [1, 2, 3, 1, 4, 1, 3, 2]:  # 4 pushes out 2, not 1, which was used since
                await service.submit(x)
            for x in range(10, 300):
                await service.submit(x)
                assert len(service._cache) <= 3

    run(main())
    assert [int(batch[0]) for batch in model.batches][:5] == [1, 2, 3, 4, 2]


def test_a_cache_of_size_0_keeps_nothing():
    model = Model()

    async def main():
        async with ModelService(model, max_delay=0, cache_size=0) as service:
            for _ in range(3):
                await service.submit(1)
            return len(service._cache), service.stats().cache_hits

    assert run(main()) == (0, 0) and model.sizes == [1, 1, 1]


def test_equal_requests_in_flight_share_one_computation_queued_or_running():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_delay=0) as service:
            running = [await held(service, model, 1.0), *tasks(service, [1.0] * 3)]
            queued = tasks(service, [2.0] * 4)
            await settle()
            assert service.stats().queue_length == 1 and service.stats().waiting == 8
            model.gate.set()
            return await asyncio.gather(*running, *queued), service.stats()

    answers, stats = run(main())
    assert answers == [2.0] * 4 + [4.0] * 4
    assert model.seen() == [1.0, 2.0] and stats.joined == 6 and adds_up(stats).served == 8


def test_nobody_can_change_a_cached_answer_nor_a_request_after_it_was_made():
    model = Model(gate_open=False)
    kept = []

    def keeps_and_reuses_its_output(batch, out=np.empty((8, 2))):
        batch *= 1  # writes into its input
        out[: len(batch)] = model(batch)
        kept.append(out)
        return out[: len(batch)]

    async def main():
        async with ModelService(keeps_and_reuses_its_output, max_delay=0) as service:
            first = await held(service, model, [0.0, 0.0])
            x = np.array([1.0, 2.0])
            task = asyncio.create_task(service.submit(x))
            await settle()
            x[:] = 100
            model.gate.set()
            await first
            answer = await task
            assert answer.tolist() == [2.0, 4.0]
            with pytest.raises(ValueError, match="read-only"):
                answer[0] = 7
            with pytest.raises(ValueError, match="WRITEABLE"):
                answer.setflags(write=True)
            kept[0][:] = 7
            again = await service.submit([1.0, 2.0])
            assert again.tolist() == [2.0, 4.0] and service.stats().cache_hits == 1

    run(main())


# Limits: the queue, time, and callers who leave


def test_a_full_queue_refuses_and_loses_nothing_that_it_took():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_batch_size=2, max_delay=0, max_queue=3) as service:
            first = await held(service, model)
            waiting = tasks(service, range(3))
            await settle()
            with pytest.raises(ServiceFull, match="3 requests are waiting: try again later"):
                await service.submit(99)
            joined = tasks(service, [2])  # takes no place
            await settle()
            model.gate.set()
            answers = await asyncio.gather(first, *waiting, *joined)
            return answers, await service.submit(99), service.stats()

    answers, later, stats = run(main())
    assert answers == [-2, 0, 2, 4, 4] and later == 198
    assert stats.refused == 1 and adds_up(stats).served == 6


def test_a_hanging_model_costs_its_callers_the_timeout_and_leaves_no_one_waiting():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_delay=0, timeout=HOUR) as service:
            hung = [await held(service, model), *tasks(service, [-1.0, 5.0, 6.0])]
            await pass_time(HOUR / 2)
            later = tasks(service, [7.0])
            await pass_time(HOUR / 2 + 1)
            assert all(isinstance(e, ServiceTimeout) for e in await outcomes(hung))
            assert service.stats().queue_length == 1 and not later[0].done()
            model.gate.set()
            assert await later[0] == 14.0  # it still had time
            return service.stats()

    stats = run(main())
    assert model.seen() == [-1.0, 7.0]  # 5 and 6 were dropped
    assert stats.timed_out == 4 and adds_up(stats).served == 1


def test_leaving_a_service_whose_model_hangs_does_not_hang_when_all_have_timed_out():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_delay=0, timeout=HOUR) as service:
            hung = tasks(service, [1.0, 2.0])
            await until(lambda: model.batches)
            await pass_time(HOUR + 1)
        return await outcomes(hung)

    assert [type(e) for e in run(main())] == [ServiceTimeout] * 2
    model.gate.set()


def test_one_caller_who_leaves_takes_nobody_with_it():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_delay=0) as service:
            first = await held(service, model, 0.0)
            joined = tasks(service, [0.0, 1.0, 1.0])
            await settle()
            for task in (first, joined[1]):  # those whom the others have joined
                task.cancel()
            model.gate.set()
            return await outcomes([first, *joined]), service.stats()

    (first, a, b, c), stats = run(main())
    assert isinstance(first, asyncio.CancelledError) and isinstance(b, asyncio.CancelledError)
    assert (a, c) == (0.0, 2.0) and stats.cancelled == 2 and adds_up(stats).served == 2


def test_a_request_that_all_have_left_never_reaches_the_model_and_frees_its_place():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_delay=0, max_queue=2) as service:
            first = await held(service, model)
            left = tasks(service, [1.0, 1.0, 2.0])
            await settle()
            for task in left:
                task.cancel()
            await settle()
            assert service.stats().queue_length == 0
            rest = tasks(service, [3.0, 4.0])
            await settle()
            rest[0].cancel()
            model.gate.set()  # it may end before the cancelled task has had its turn
            return await outcomes([first, *left, *rest]), service.stats()

    results, stats = run(main())
    assert results[-1] == 8.0 and model.seen() == [-1.0, 4.0]
    assert stats.cancelled == 4 and adds_up(stats).served == 2


def test_a_request_left_at_the_very_moment_of_its_batch_is_dropped():
    model = Model()

    async def main():
        async with ModelService(model, max_delay=HOUR) as service:
            left, stays = tasks(service, [1.0, 2.0])
            await settle()
            asyncio.get_running_loop().moved += HOUR + 1
            service._changed.set()  # the batcher's turn comes first,
            left.cancel()  # and then that of the task that was cancelled
            return await outcomes([left, stays]), service.stats()

    (left, stays), stats = run(main())
    assert isinstance(left, asyncio.CancelledError) and stays == 4.0
    assert model.seen() == [2.0] and adds_up(stats).cancelled == 1


def test_a_caller_may_return_to_a_request_just_left():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_delay=0) as service:
            first = await held(service, model)
            (left,) = tasks(service, [1.0])
            await settle()
            left.cancel()
            again = tasks(service, [1.0])
            model.gate.set()
            return await asyncio.gather(first, *again)

    assert run(main()) == [-2.0, 2.0]


# Faults of the model


class Picky(Model):
    """Raises for a batch with a negative number other than −1."""

    def answer(self, batch):
        if (bad := batch[batch < -1]).size:
            raise ArithmeticError(f"can't take {bad.tolist()}")
        return 2 * batch


def test_one_bad_request_fails_alone_with_the_models_own_error_as_cause():
    model = Picky(gate_open=False)

    async def main():
        async with ModelService(model, max_delay=0) as service:
            first = await held(service, model)
            rest = tasks(service, [1.0, -5.0, 2.0, -5.0])
            await settle()
            model.gate.set()
            results = await outcomes([first, *rest])
            retried = await outcomes(tasks(service, [-5.0]))  # errors are not kept
            return results, retried, service.stats()

    (_, a, bad, b, joined), (again,), stats = run(main())
    assert (a, b) == (2.0, 4.0)
    for error in (bad, joined, again):
        assert type(error) is ModelError and "ArithmeticError: can't take [-5.0]" in str(error)
        assert isinstance(error.__cause__, ArithmeticError)
    assert bad is not joined  # one exception for each caller
    assert model.sizes == [1, 3, 1, 1, 1, 1]  # one try together, one alone, and the later request
    assert stats.failed == 3 and stats.batch_sizes[1] == 5 and adds_up(stats).served == 3


def test_a_failed_batch_is_freed_with_its_error():
    batches = []

    def model(batch):
        batches.append(weakref.ref(batch))
        raise ArithmeticError

    async def main():
        async with ModelService(model, max_delay=0) as service:
            await outcomes(tasks(service, [1.0]))

    gc.disable()
    try:
        run(main())
        (batch,) = batches
        for _ in range(1000):  # the thread lets go when it has its next turn
            if batch() is not None:
                time.sleep(0.01)
        assert batch() is None
    finally:
        gc.enable()


def test_nobodys_request_is_tried_alone():
    model = Picky(gate_open=False)

    async def main():
        async with ModelService(model, max_delay=0) as service:
            rest = tasks(service, [-5.0, 1.0, 2.0])
            await until(lambda: model.batches)
            rest[1].cancel()
            await settle()
            model.gate.set()
            return await outcomes(rest), service.stats()

    results, stats = run(main())
    assert [type(r) for r in results[:2]] == [ModelError, asyncio.CancelledError]
    assert results[2] == 4.0 and model.sizes == [3, 1, 1] and adds_up(stats).cancelled == 1


@pytest.mark.parametrize(
    "error", [SystemExit(1), StopIteration(), asyncio.CancelledError(), KeyboardInterrupt()]
)
def test_whatever_the_model_raises_the_service_goes_on(error):
    def model(batch):
        if batch[0] == 0:
            raise error
        return batch

    async def main():
        async with ModelService(model, max_delay=0) as service:
            with pytest.raises(ModelError, match=type(error).__name__):
                await service.submit(0)
            return await service.submit(1)

    assert run(main()) == 1


@pytest.mark.parametrize(
    "output",
    [
        lambda batch: batch[:-1],
        lambda batch: np.concatenate([batch, batch]),
        lambda batch: batch.sum(),
        lambda batch: None,
        lambda batch: [[0.0]] * (len(batch) - 1) + [[0.0, 1.0]],
        lambda batch: {"answers": batch},
        lambda batch: torch.ones(len(batch), requires_grad=True),
    ],
    ids=["short", "long", "scalar", "none", "ragged", "dict", "grad"],
)
def test_an_output_that_is_not_one_answer_each_fails_the_batch_and_is_not_tried_again(output):
    model = Model()
    model.answer = output

    async def main():
        async with ModelService(model, max_batch_size=3, max_delay=HOUR) as service:
            return await outcomes(tasks(service, [1.0, 2.0, 3.0])), service.stats()

    results, stats = run(main())
    for error in results:
        assert type(error) is BadModelOutput
        assert "predict_fn must return an array of 3 answers" in str(error)
    assert model.sizes == [3] and adds_up(stats).failed == 3


def test_a_torch_model_can_be_served():
    network = torch.nn.Linear(3, 2).eval()

    @torch.inference_mode()
    def model(batch):
        return network(torch.from_numpy(batch))

    requests = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)

    async def main():
        async with ModelService(model) as service:
            return await asyncio.gather(*tasks(service, requests))

    np.testing.assert_allclose(np.stack(run(main())), model(requests), rtol=1e-5, atol=1e-6)


# The end


def test_leaving_in_mid_batch_answers_all_who_wait_and_refuses_all_who_come():
    model = Model(gate_open=False)

    async def main():
        service = ModelService(model, max_batch_size=2, max_delay=HOUR)
        async with service:
            waiting = tasks(service, range(2))
            await until(lambda: model.batches)
            waiting += tasks(service, range(2, 5))  # a full batch, and one that is not
            await settle()
            closing = asyncio.create_task(service.close())
            await settle()
            with pytest.raises(ServiceClosed, match="it takes no more requests"):
                await service.submit(9)
            assert not closing.done()
            model.gate.set()
        answers = await asyncio.gather(*waiting)
        with pytest.raises(ServiceClosed):
            await service.submit(0)  # not even from the cache
        with pytest.raises(ServiceClosed):
            await asyncio.to_thread(service.predict, 0)
        return answers, service.stats()

    answers, stats = run(main())
    assert answers == [0, 2, 4, 6, 8] and model.sizes == [2, 2, 1]  # without an hour's delay
    assert adds_up(stats).served == 5 and stats.refused == 2


def test_close_with_a_limit_refuses_those_who_still_wait():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_batch_size=2, max_delay=0) as service:
            waiting = tasks(service, range(2))
            await until(lambda: model.batches)
            waiting += tasks(service, range(2, 5))
            thread = asyncio.create_task(asyncio.to_thread(service.predict, 7))
            await until(lambda: service.stats().received == 6)
            await service.close(grace=0.01)
            results = await outcomes([*waiting, thread])
        return results, service.stats()

    results, stats = run(main())
    assert [type(e) for e in results] == [ServiceClosed] * 6
    assert adds_up(stats).refused == 6
    model.gate.set()


@pytest.mark.parametrize("ends", ["cancelled", "raises"])
def test_a_body_that_does_not_end_well_leaves_nobody_waiting(ends):
    model = Model(gate_open=False)
    waiting = []

    async def body():
        async with ModelService(model, max_delay=0) as service:
            waiting.extend(tasks(service, [1.0, 2.0]))
            await until(lambda: model.batches)
            waiting.append(asyncio.create_task(asyncio.to_thread(service.predict, 3.0)))
            await until(lambda: service.stats().received == 3)
            if ends == "raises":
                model.gate.set()
                raise LookupError("of the body")
            await service.close()  # waits for the model, and is cancelled meanwhile

    async def main():
        task = asyncio.create_task(body())
        await until(lambda: len(waiting) == 3)
        if ends == "cancelled":
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.sleep(0.01)
            task.cancel()
        (end,) = await outcomes([task])
        return end, await outcomes(waiting)

    end, results = run(main())
    model.gate.set()
    if ends == "raises":
        assert isinstance(end, LookupError) and results == [2.0, 4.0, 6.0]
    else:
        assert isinstance(end, asyncio.CancelledError)
        assert [type(e) for e in results] == [ServiceClosed] * 3


def test_a_service_that_nobody_uses_closes_and_lets_its_model_go():
    model = Model()
    gone = weakref.ref(model)

    async def main():
        async with ModelService(model, max_delay=0) as service:
            await service.submit(1.0)
        async with ModelService(model) as service:
            pass
        await service.close()  # once more does no harm

    run(main())
    del model
    gc.collect()
    assert gone() is None


def test_python_ends_although_a_model_hangs():
    code = """
import asyncio, threading
from dlcourse.ml_system_design import ModelService
async def main():
    async with ModelService(lambda batch: threading.Event().wait(), timeout=0.05) as service:
        try:
            await service.submit(1)
        except Exception as error:
            print(type(error).__name__)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.stdout.strip() == "ServiceTimeout", done.stderr


def test_under_ten_times_the_load_every_request_is_answered_or_refused_and_the_queue_is_bounded():
    # The model answers at most 8 requests in 10 ms; 80 new ones come in each pause of 10 ms.
    seen = Counter()

    def model(batch):
        seen.update(batch.tolist())
        time.sleep(0.01)
        return 3 * batch

    async def main():
        results, longest = {}, 0

        async def client(i):
            try:
                results.setdefault(i, []).append(int(await service.submit(i)))
            except ServiceFull:
                results.setdefault(i, []).append("refused")

        async with ModelService(model, 8, max_delay=0, max_queue=64, cache_size=100) as service:
            clients = []
            for tick in range(150):
                clients += [asyncio.create_task(client(80 * tick + i)) for i in range(80)]
                await asyncio.sleep(0.01)
                longest = max(longest, service.stats().queue_length)
                assert len(service._in_flight) <= 64 + 8 and len(service._cache) <= 100
            await asyncio.gather(*clients)
        assert not service._in_flight and not service._queues
        return results, longest, service.stats()

    results, longest, stats = run(main())
    assert sorted(results) == list(range(12_000))  # none is lost
    answered = {i for i, found in results.items() if found == [3 * i]}
    refused = {i for i, found in results.items() if found == ["refused"]}
    assert len(answered) + len(refused) == 12_000  # none is mixed up, none has two ends
    assert set(seen) == answered and set(seen.values()) == {1}  # none is computed twice
    assert longest <= 64 and len(refused) >= 80 - 64
    assert (adds_up(stats).served, stats.refused) == (len(answered), len(refused))


@pytest.mark.parametrize("seed", range(5))
def test_in_a_storm_of_faults_every_request_has_one_end_and_the_right_one(seed):
    rng = np.random.default_rng(seed)
    model = Picky()
    values = rng.integers(-4, 30, 600)
    leaves = rng.random(600) < 0.2

    async def main():
        service = ModelService(
            model, int(rng.integers(1, 9)), float(rng.choice([0, 0.001])), max_queue=20,
            cache_size=int(rng.choice([0, 5, 100])),
        )  # fmt: skip
        async with service:
            clients = []
            for value, leave in zip(values, leaves):
                (task,) = tasks(service, [float(value)])
                clients.append(task)
                if rng.random() < 0.2:
                    await asyncio.sleep(0)
                if leave:
                    task.cancel()
                if rng.random() < 0.05:
                    await asyncio.sleep(0.002)
        return await outcomes(clients), service.stats()

    results, stats = run(main())
    ends = Counter()
    for value, leave, result in zip(values, leaves, results, strict=True):
        ends[type(result)] += 1
        if isinstance(result, asyncio.CancelledError):
            assert leave
        elif isinstance(result, ModelError):
            assert value < -1
        elif not isinstance(result, ServiceError):
            assert result == 2 * value and value >= -1
    assert ends[np.ndarray] == adds_up(stats).served > 0
    assert ends[ModelError] == stats.failed > 0
    assert ends[ServiceFull] + ends[ServiceClosed] == stats.refused
    assert max(model.sizes) <= len(stats.batch_sizes) - 1
    assert [model.sizes.count(n) for n in range(len(stats.batch_sizes))] == [*stats.batch_sizes]


# What the service refuses to be given


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(predict_fn=3), TypeError, "predict_fn must be an ordinary function"),
        (dict(max_batch_size=0), ValueError, "max_batch_size must be at least 1: got 0"),
        (dict(max_batch_size=2.5), TypeError, "max_batch_size must be a whole number"),
        (dict(max_batch_size=True), TypeError, "max_batch_size must be a whole number"),
        (dict(max_delay=-1), ValueError, "max_delay must be finite and ≥ 0"),
        (dict(max_delay=math.nan), ValueError, "max_delay must be finite"),
        (dict(max_delay="1"), TypeError, "max_delay must be a number"),
        (dict(max_queue=0), ValueError, "max_queue must be at least 1"),
        (dict(cache_size=-1), ValueError, "cache_size must be at least 0"),
        (dict(timeout=0), ValueError, "timeout must be finite and > 0"),
        (dict(timeout=math.inf), ValueError, "timeout must be finite"),
        (dict(version=2), TypeError, "version must be a string"),
    ],
)
def test_service_with_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ModelService(**{"predict_fn": abs, **arguments})


async def coroutine(batch):
    return batch


async def generator(batch):
    yield batch


class AsyncCall:
    async def __call__(self, batch):
        return batch


class AsyncGeneratorCall:
    async def __call__(self, batch):
        yield batch


@pytest.mark.parametrize(
    "model",
    [
        coroutine, generator, functools.partial(coroutine), AsyncCall(), AsyncCall().__call__,
        AsyncGeneratorCall(),
    ],
)  # fmt: skip
def test_what_gives_a_coroutine_is_no_model_since_it_would_run_in_no_loop(model):
    with pytest.raises(TypeError, match="ordinary function"):
        ModelService(model)


def test_bad_requests_are_refused_before_they_are_counted():
    async def main():
        async with ModelService(lambda batch: batch) as service:
            with pytest.raises(ValueError, match="not ragged"):
                await service.submit([[1.0], [1.0, 2.0]])
            with pytest.raises(TypeError, match="Python objects"):
                await service.submit([object()])
            with pytest.raises(TypeError, match="Python objects"):
                await asyncio.to_thread(service.predict, {"a": 1})
            with pytest.raises(ValueError, match="grace must be finite"):
                await service.close(grace=-1)
            return service.stats()

    assert adds_up(run(main())).received == 0


def test_predict_in_the_loop_or_by_the_model_itself_says_what_to_do_and_does_not_hang():
    async def main():
        def model(batch):
            return service.predict(batch[0])

        async with ModelService(model, max_delay=0) as service:
            with pytest.raises(RuntimeError, match="await service.submit") as caught:
                service.predict(1.0)
            assert not isinstance(caught.value, ServiceError)
            with pytest.raises(ModelError, match="predict_fn must not ask its own service"):
                await service.submit(1.0)

    run(main())


def test_a_service_that_is_not_open_or_open_elsewhere_says_so():
    service = ModelService(abs)
    with pytest.raises(ServiceClosed, match="not open"):
        service.predict(1)
    with pytest.raises(ServiceClosed, match="use `async with"):
        run(service.submit(1))

    async def main():
        async with service:
            with pytest.raises(RuntimeError, match="opened once"):
                await service.__aenter__()
            with pytest.raises(RuntimeError, match="another event loop"):
                await asyncio.to_thread(run, service.submit(1))

    run(main())
    with pytest.raises(dataclasses.FrozenInstanceError):
        service.stats().served = 3


# Keys


def test_equal_keys_are_of_equal_bytes_dtype_shape_and_version():
    base = np.arange(6.0)
    unlike = [
        content_key(base, "1"), content_key(base, "2"), content_key(base.reshape(2, 3), "1"),
        content_key(base.reshape(3, 2), "1"), content_key(base.view(np.int64), "1"),
        content_key(base.astype(">f8"), "1"), content_key(base[:5], "1"), content_key(-base, "1"),
        content_key(base.view([("a", "<f8")]), "1"), content_key(base.view([("b", "<f8")]), "1"),
        content_key(np.zeros((0, 2)), "1"), content_key(np.zeros((2, 0)), "1"),
        content_key(0.0, ""), content_key(-0.0, ""), content_key(0, ""), content_key(False, ""),
    ]  # fmt: skip
    assert len(set(unlike)) == len(unlike)
    strided = np.arange(12.0).reshape(2, 6)[:, ::2]
    for same in (strided.copy(), np.asfortranarray(strided), strided.tolist()):
        assert content_key(same, "é") == content_key(strided, "é")


def test_a_key_is_the_same_in_another_process_and_another_year():
    key = content_key(np.array([1.5, -2.0], dtype="<f4"), "v1")
    code = (
        "import numpy as np; from dlcourse.ml_system_design import content_key; "
        "print(content_key(np.array([1.5, -2.0], dtype='<f4'), 'v1'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == key and len(key) == 64


def test_content_key_refuses_what_has_no_content():
    with pytest.raises(TypeError, match="Python objects"):
        content_key(np.array([object()]), "")
    with pytest.raises(ValueError, match="ragged"):
        content_key([[1], [1, 2]], "")
    with pytest.raises(TypeError, match="version must be a string"):
        content_key([1.0], None)


# Model files


def network(seed=0, width=4):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width))


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(module, before):
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_module_comes_back_bit_for_bit_with_its_metadata(tmp_path):
    path = tmp_path / "deep" / "model.safetensors"
    saved, other = network(0), network(1)
    saved[1].running_mean += 3
    digest = save_model(saved, path, {"version": "7", "odd": '"sha256":"' + "a" * 64 + '"'})
    metadata = load_model(other, path)
    assert metadata == {"version": "7", "odd": '"sha256":"' + "a" * 64 + '"', "sha256": digest}
    assert_same(other, weights(saved))
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    from safetensors.torch import load_file

    assert load_file(path).keys() == saved.state_dict().keys()  # any reader can read it


def test_tied_half_empty_and_scalar_tensors_come_back(tmp_path):
    def make(seed):
        torch.manual_seed(seed)
        module = torch.nn.Module()
        module.a = torch.nn.Linear(3, 3, dtype=torch.bfloat16)
        module.b = torch.nn.Linear(3, 3, dtype=torch.bfloat16)
        module.b.weight = module.a.weight
        module.register_buffer("empty", torch.zeros(0, 4))
        module.register_buffer("scalar", torch.tensor(seed, dtype=torch.int64))
        module.register_buffer("transposed", torch.randn(4, 2).T)
        return module

    saved, other = make(1), make(2)
    save_model(saved, tmp_path / "m")
    load_model(other, tmp_path / "m")
    assert_same(other, weights(saved))
    assert other.a.weight is other.b.weight


def test_any_flipped_bit_and_any_other_length_is_found_and_changes_nothing(tmp_path):
    path = tmp_path / "m"
    save_model(network(0, 1), path, {"version": "1"})
    whole = path.read_bytes()
    module = network(1, 1)
    before = weights(module)
    damaged = [whole[:n] for n in range(0, len(whole), 7)] + [whole + b"\0", whole[1:], b""]
    for i in range(len(whole)):
        for flip in (1 << i % 8, 0xFF, 0x20 ^ 0x09):  # the last makes a tab of a space
            damaged.append(whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="damaged"):
            load_model(module, path)
    assert_same(module, before)
    path.write_bytes(whole)
    load_model(module, path)


@pytest.mark.parametrize(
    "other, message",
    [
        (lambda: network(1, 5), r"0.weight is torch.float32 \(4, 3\) in the file and .* \(5, 3\)"),
        (lambda: network(1)[:1], "1.weight is unexpected"),
        (lambda: network(1).append(torch.nn.Linear(1, 1)), "2.bias is missing; 2.weight is"),
        (lambda: network(1).double(), "torch.float32 .* in the file and torch.float64"),
    ],
)
def test_a_file_of_another_model_is_refused_and_changes_nothing(tmp_path, other, message):
    save_model(network(0), tmp_path / "m")
    module = other()
    before = weights(module)
    with pytest.raises(ModelFileError, match=message):
        load_model(module, tmp_path / "m")
    assert_same(module, before)


def test_files_of_others_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file(network().state_dict(), tmp_path / "plain")
    torch.save(network().state_dict(), tmp_path / "pickle")
    for name in ("plain", "pickle"):
        with pytest.raises(ModelFileError, match="save_model did not write it"):
            load_model(network(), tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_model(network(), tmp_path / "none")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    save_model(network(0), path)
    before = path.read_bytes()

    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="no space left"):
        save_model(network(1), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


class Stateful(torch.nn.Module):
    def get_extra_state(self):
        return {"a": 1}


def buffer(tensor):
    module = torch.nn.Module()
    module.register_buffer("x", tensor)
    return module


@pytest.mark.parametrize(
    "module, metadata, error, message",
    [
        ({}, None, TypeError, "must be a torch.nn.Module: got dict"),
        (Stateful(), None, TypeError, "_extra_state is no tensor but dict"),
        (torch.nn.LazyLinear(3), None, ValueError, "has no values yet: run one batch"),
        (torch.nn.Linear(2, 2, device="meta"), None, ValueError, "has no values yet"),
        (buffer(torch.eye(2).to_sparse()), None, TypeError, "dense tensors only"),
        (buffer(torch.zeros(2, dtype=torch.complex128)), None, TypeError, "no dtype"),
        (network(), {"epoch": 3}, TypeError, "metadata must be text by name"),
        (network(), {"sha256": "x"}, ValueError, "sha256 is taken"),
    ],
)
def test_save_model_with_bad_arguments_writes_nothing(tmp_path, module, metadata, error, message):
    with pytest.raises(error, match=message):
        save_model(module, tmp_path / "m", metadata)
    assert list(tmp_path.iterdir()) == []


# Queueing


def queue_by_events(arrivals, service_time, max_batch_size, max_delay):
    """As ``simulate_queue``, one event after the other: for reading, and to compare with."""
    coming = list(enumerate(arrivals))
    waiting, start, finish, sizes = [], {}, {}, []
    free_at = -math.inf
    while coming or waiting:
        # The next moment at which anything can happen.
        moments = [coming[0][1]] if coming else []
        if waiting:
            moments += [max(free_at, waiting[0][1] + max_delay)]
            if len(waiting) >= max_batch_size:
                moments += [max(free_at, waiting[max_batch_size - 1][1])]
        now = min(moments)
        while coming and coming[0][1] <= now:
            waiting.append(coming.pop(0))
        if not waiting or free_at > now:
            continue
        if len(waiting) >= max_batch_size or now >= waiting[0][1] + max_delay:
            batch, waiting = waiting[:max_batch_size], waiting[max_batch_size:]
            free_at = now + service_time(len(batch))
            sizes.append(len(batch))
            for i, _ in batch:
                start[i], finish[i] = now, free_at
    return [start[i] for i in sorted(start)], [finish[i] for i in sorted(finish)], sizes


# Multiples of 1/4, so that many things happen at one moment and sums are exact.
quarters = st.integers(0, 40).map(lambda n: n / 4)


@settings(max_examples=300, deadline=None)
@given(
    arrivals=st.lists(quarters, max_size=25).map(sorted),
    base=quarters,
    each=st.integers(0, 8).map(lambda n: n / 4),
    size=st.integers(1, 6),
    delay=st.integers(0, 12).map(lambda n: n / 4),
)
def test_the_simulation_equals_the_one_event_by_event(arrivals, base, each, size, delay):
    def seconds(n):
        return base / 8 + each * n

    found = simulate_queue(arrivals, seconds, size, delay)
    start, finish, sizes = queue_by_events(arrivals, seconds, size, delay)
    assert (found.start.tolist(), found.finish.tolist()) == (start, finish)
    assert found.batch_sizes.tolist() == sizes
    np.testing.assert_array_equal(found.waiting, np.subtract(start, arrivals))
    np.testing.assert_array_equal(found.sojourn, np.subtract(finish, arrivals))


def test_a_queue_by_hand():
    found = simulate_queue([0, 1, 1, 5, 5, 5], lambda n: 2 + n, max_batch_size=2, max_delay=0.5)
    # alone after 0.5; free at 3.5, two; free at 7.5, two; the last when free at 11.5
    assert found.start.tolist() == [0.5, 3.5, 3.5, 7.5, 7.5, 11.5]
    assert found.finish.tolist() == [3.5, 7.5, 7.5, 11.5, 11.5, 14.5]
    assert found.batch_sizes.tolist() == [1, 2, 2, 1]
    assert simulate_queue([], abs).batch_sizes.shape == (0,)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_without_batches_the_mean_wait_is_that_of_pollaczek_and_khinchine(load):
    seconds, means = 0.002, []
    for seed in range(20):
        arrivals = poisson_arrivals(load / seconds, 12_000, seed)
        times = simulate_queue(arrivals, lambda n: seconds, max_batch_size=1)
        means.append(times.waiting[2000:].mean())  # the queue was empty at first
    error = np.std(means, ddof=1) / math.sqrt(len(means))
    expected = pollaczek_khinchine_wait(load / seconds, seconds)
    assert expected == pytest.approx(load * seconds / (2 * (1 - load)))
    assert abs(np.mean(means) - expected) < 4 * error
    assert 4 * error < 0.15 * expected  # the comparison can tell


def test_the_formula_for_random_service_is_that_of_m_m_1():
    rate, mean = 30.0, 0.02  # exponential: the variance is mean²; W = ρ/(μ − λ)
    assert pollaczek_khinchine_wait(rate, mean, mean**2) == pytest.approx(0.6 / (50 - 30))


def test_batching_carries_a_load_that_single_requests_cannot():
    def seconds(n):
        return 0.0012 + 0.0002 * n  # most of the cost is that of a call

    arrivals = poisson_arrivals(1500, 6000, 0)
    single = simulate_queue(arrivals, seconds, max_batch_size=1)
    greedy = simulate_queue(arrivals, seconds, max_batch_size=32)
    timer = simulate_queue(arrivals, seconds, max_batch_size=32, max_delay=0.005)
    assert single.waiting[-1] > 1.0 and greedy.waiting.max() < 0.05
    assert greedy.sojourn.mean() < timer.sojourn.mean()
    assert greedy.batch_sizes.mean() < timer.batch_sizes.mean()


def test_arrivals_are_a_poisson_process_from_a_seed():
    arrivals = poisson_arrivals(50.0, 40_000, 3)
    gaps = np.diff(arrivals, prepend=0)
    assert (gaps > 0).all() and arrivals.shape == (40_000,)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.03)
    counts = np.bincount(arrivals[arrivals < 700].astype(int))
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.3)  # 5 standard errors
    np.testing.assert_array_equal(arrivals, poisson_arrivals(50.0, 40_000, 3))
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(arrivals[:9], poisson_arrivals(50.0, 9, rng))
    assert (poisson_arrivals(50.0, 9, rng) != arrivals[:9]).all()


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: simulate_queue([1, 0], abs), ValueError, "ascending: sort them"),
        (lambda: simulate_queue([0, math.nan], abs), ValueError, "finite"),
        (lambda: simulate_queue([[0.0]], abs), ValueError, r"shape \(n,\)"),
        (lambda: simulate_queue(["a"], abs), TypeError, "real numbers"),
        (lambda: simulate_queue([0], 0.1), TypeError, "must map a batch size to seconds"),
        (lambda: simulate_queue([0], lambda n: -1), ValueError, r"service_time\(1\)"),
        (lambda: simulate_queue([0], lambda n: None), TypeError, r"service_time\(1\)"),
        (lambda: simulate_queue([0], abs, 0), ValueError, "max_batch_size"),
        (lambda: simulate_queue([0], abs, 1, math.inf), ValueError, "max_delay"),
        (lambda: poisson_arrivals(0, 3), ValueError, "rate must be finite and > 0"),
        (lambda: poisson_arrivals(1, 0), ValueError, "count must be at least 1"),
        (lambda: poisson_arrivals(1, 1.5), TypeError, "count must be a whole number"),
        (lambda: pollaczek_khinchine_wait(10, 0.1), ValueError, "below 1: got 1, without end"),
        (lambda: pollaczek_khinchine_wait(-1, 0.1), ValueError, "rate"),
        (lambda: pollaczek_khinchine_wait(1, -0.1), ValueError, "mean"),
        (lambda: pollaczek_khinchine_wait(1, 0.1, -1), ValueError, "variance"),
    ],
)
def test_queueing_with_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# What the listing of the document does: its lines, a few at a time


def test_listing_waits_with_a_method_that_it_does_not_have_and_leaves_the_request_behind():
    class Listing:
        def __init__(self):
            self.request_queue = queue.Queue()

        def predict(self, features, key):
            self.request_queue.put((features, key))
            return self._wait_for_result(key)

    service = Listing()
    with pytest.raises(AttributeError, match="_wait_for_result"):
        service.predict(np.zeros(2), 0)
    assert service.request_queue.qsize() == 1


def test_listing_never_processes_a_batch_that_is_not_full_and_this_one_does():
    waiting, processed = queue.Queue(), []
    for i in range(31):
        waiting.put(i)
        if waiting.qsize() >= 32:
            processed.append(i)
    assert waiting.qsize() == 31 and not processed

    async def main():
        async with ModelService(Model()) as service:
            return await asyncio.gather(*tasks(service, range(31)))

    assert run(main()) == [2 * i for i in range(31)]


def test_listing_lets_two_callers_find_the_same_full_batch():
    waiting = queue.Queue()
    for i in range(4):
        waiting.put(i)
    both_go = [waiting.qsize() >= 4, waiting.qsize() >= 4]  # before either has taken one
    batches = [[], []]
    for _ in range(2):  # and then in turns, as threads may
        for batch in batches:
            batch.append(waiting.get_nowait())
    assert both_go == [True, True] and batches == [[0, 2], [1, 3]]  # two halves, no full batch


def test_listing_names_unlike_requests_alike_and_equal_ones_unlike_in_another_process():
    requests = [np.zeros(4, np.float32), np.zeros((2, 2), np.float32), np.zeros(2, np.float64)]
    assert len({hash(x.tobytes()) for x in requests}) == 1
    assert len({content_key(x, "") for x in requests}) == 3
    code = "import numpy as np; print(hash(np.zeros(4).tobytes()))"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in "12"
    }  # fmt: skip
    assert len(hashes) == 2


def test_listing_loses_a_batch_to_one_bad_request_and_answers_for_a_model_that_is_gone():
    waiting, cache = queue.Queue(), {}
    for i in (1.0, -5.0, 2.0):
        waiting.put((i, hash(i)))
    batch = [waiting.get_nowait() for _ in range(3)]
    with pytest.raises(ArithmeticError):
        cache.update(zip([key for _, key in batch], Picky()(np.array([x for x, _ in batch]))))
    assert waiting.empty() and not cache  # three callers wait for what nobody works on

    cache[hash(np.ones(2).tobytes())] = "by model 1"
    assert cache[hash(np.ones(2).tobytes())] == "by model 1"  # whichever model is loaded now
    assert content_key(np.ones(2), "1") != content_key(np.ones(2), "2")


def test_listing_keeps_every_answer_that_it_ever_gave():
    cache = {}
    for i in range(20_000):
        cache[hash(np.array([i]).tobytes())] = i
    assert len(cache) == 20_000


class Payload:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_listing_runs_the_code_in_a_model_file_and_load_model_does_not(tmp_path):
    import joblib

    joblib.dump(Payload(tmp_path / "made"), tmp_path / "m")
    with pytest.raises(ModelFileError):
        load_model(network(), tmp_path / "m")
    assert not (tmp_path / "made").exists()
    joblib.load(tmp_path / "m")
    assert (tmp_path / "made").exists()
