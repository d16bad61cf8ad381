"""Answers to 123.2a.take-batch."""


def wrong_strictly_waited(kinds, arrived, now, size, delay):
    return right_loop(kinds, arrived, now - 1e-6, size, delay)


def wrong_full_needs_one_more(kinds, arrived, now, size, delay):
    return right_loop(kinds, arrived, now, size + 1, delay)[:size]


def wrong_largest_queue(kinds, arrived, now, size, delay):
    if not kinds:
        return []
    kind = max(kinds, key=kinds.count)
    return [i for i, k in enumerate(kinds) if k == kind][:size]


def wrong_delay_ignored(kinds, arrived, now, size, delay):
    return right_loop(kinds, arrived, now, size, 0.0)


def right_loop(kinds, arrived, now, size, delay):
    best, best_ready = [], float("inf")
    for kind in dict.fromkeys(kinds):
        mine = [i for i in range(len(kinds)) if kinds[i] == kind]
        ready = arrived[mine[0]] if len(mine) >= size else arrived[mine[0]] + delay
        if ready < best_ready:
            best, best_ready = mine, ready
    return best[:size] if best_ready <= now else []


def right_sorted(kinds, arrived, now, size, delay):
    options = []
    for i, kind in enumerate(kinds):
        if kind in kinds[:i]:
            continue
        late = 0.0 if kinds.count(kind) >= size else delay
        options.append((float(arrived[i]) + late, i))
    options = sorted(o for o in options if o[0] <= now)
    if not options:
        return []
    kind = kinds[options[0][1]]
    return [i for i, k in enumerate(kinds) if k == kind][:size]
