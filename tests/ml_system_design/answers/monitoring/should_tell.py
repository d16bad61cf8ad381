"""Answers to 123.3.should-tell."""


def follow(values, is_bad, is_good, lasting, keep_run=False):
    raised, run, told = False, 0, []
    for i, value in enumerate(values):
        run = run + 1 if is_bad(value) else 0
        if not raised and run >= lasting:
            raised = True
            told.append((i, "raised"))
        elif raised and is_good(value):
            raised = False
            run = run if keep_run else 0
            told.append((i, "cleared"))
    return told


def wrong_at_the_threshold(values, raise_at, clear_at, lasting):
    return follow(
        values,
        lambda v: v is not None and v >= raise_at,
        lambda v: v is not None and v <= clear_at,
        lasting,
    )


def wrong_lasts_one_more(values, raise_at, clear_at, lasting):
    return right_with_functions(values, raise_at, clear_at, lasting + 1)


def wrong_tells_the_first_index(values, raise_at, clear_at, lasting):
    told = right_with_functions(values, raise_at, clear_at, lasting)
    return [(i - (lasting if state == "raised" else 1) + 1, state) for i, state in told] if (
        lasting > 1
    ) else [(i + 1, state) for i, state in told]  # fmt: skip


def wrong_never_clears(values, raise_at, clear_at, lasting):
    return right_with_functions(values, raise_at, clear_at, lasting)[:1]


def wrong_skips_unknown(values, raise_at, clear_at, lasting):
    known = [v for v in values if v is not None]
    return right_with_functions(known, raise_at, clear_at, lasting)


def right_with_functions(values, raise_at, clear_at, lasting):
    return follow(
        values,
        lambda v: v is not None and v > raise_at,
        lambda v: v is not None and v <= clear_at,
        lasting,
    )


def right_looking_back(values, raise_at, clear_at, lasting):
    told, raised, start = [], False, 0
    for i, value in enumerate(values):
        if raised:
            if value is not None and value <= clear_at:
                raised, start = False, i + 1
                told.append((i, "cleared"))
        else:
            last = values[max(start, i - lasting + 1) : i + 1]
            if len(last) == lasting and all(v is not None and v > raise_at for v in last):
                raised = True
                told.append((i, "raised"))
    return told
