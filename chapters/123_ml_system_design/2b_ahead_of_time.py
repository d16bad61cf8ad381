# %% [markdown] tags=["slide"]
# (sec-123-2b)=
# # 123.2b Ahead-of-time compilation
#
# A compiler can make a model faster, and it takes tens of seconds to do so. Ahead of time means:
# once, before there is a server, into a file. At the end of this section you can compile a model,
# prove that the file answers as the model does, say on which machines it may be loaded, and count
# after how many requests a compiler has paid for itself.
#
# You need: {doc}`123.2a <2a_model_service>` for the last part, and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import asyncio
import functools
import os
import statistics
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from dlcourse.measure import interleaved
from dlcourse.ml_system_design import (
    ModelService, NotEqualToEager, OnnxModel, ServiceFull, WrongEnvironment, break_even_requests,
    compile_ahead_of_time, compile_once, export_onnx, export_program, load_compiled, pad_batches,
    poisson_arrivals, quantize_onnx,
)  # fmt: skip
from dlcourse.ml_system_design.ahead_of_time import manifest as manifests
from dlcourse.ml_system_design.ahead_of_time import package
from dlcourse.ml_system_design.experiments.ahead_of_time import (
    MODELS, OneThread, cold_start, compile_vit_apart, inputs, longest_pause, model, prepare_apart,
    ready, vit_b16,
)  # fmt: skip
from dlcourse.notebook import claim, explore, keep, say, show_source, values_of

plt.style.use("dlcourse.notebook.course")
torch.set_num_threads(1)
SEEDS = range(3)
NOT_YET = "*This part is not recorded yet.*"
BATCHES = {"MLP": (1, 8, 32, 128), "ViT": (1, 8, 32), "EfficientNet-Lite0": (1, 8)}
FIXED = {"MLP": (1, 32), "ViT": (1, 8)}  # batches for which a model of that size alone is compiled
COLOR = {
    "eager": "tab:gray", "torch.compile": "tab:orange", "AOTInductor": "tab:blue",
    "ONNX Runtime": "tab:green", "ONNX Runtime, uint8": "tab:olive",
}  # fmt: skip


def in_time(way, name):
    """Whether this is measured: torch.compile needs many minutes for 50 convolutions."""
    return way != "torch.compile" or name in FIXED


def middle(values, form=".2f"):
    """Median of the repetitions, and from least to largest, as text."""
    values = [float(v) for v in values]
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


# %% [markdown] tags=["slide"]
# ## A question
#
# Without a compiler a request takes 2 ms. With it, a request takes less, but somebody must wait for
# the compiler first: **from which request on is the whole faster?** Move the time that the first
# answer needs, and the time of a request. Compiled as the server starts, the first is tens of
# seconds. Loaded from a file, it is a fraction of one.

# %% tags=["hide-input"]
EAGER_MS, EAGER_START = 2.0, 0.1  # ms a request; s to the first answer


def draw_break_even(start, each):
    n = np.geomspace(1, 1e6, 200)
    fig, ax = plt.subplots(figsize=(6.2, 2.8), constrained_layout=True)
    ax.loglog(n, EAGER_START + n * EAGER_MS / 1e3, color=COLOR["eager"], label="eager")
    ax.loglog(n, start + n * each / 1e3, color=COLOR["AOTInductor"], label="compiled")
    paid = break_even_requests(start, each / 1e3, EAGER_START, EAGER_MS / 1e3)
    if 1 <= paid <= 1e6:
        ax.axvline(paid, color="tab:red", ls=":", label=f"paid after {paid:,.0f}")
    ax.set(xlabel="requests since the start", ylabel="time for all of them (s)")
    ax.legend()
    return fig


def told_break_even(start, each):
    paid = break_even_requests(start, each / 1e3, EAGER_START, EAGER_MS / 1e3)
    return (
        f"Time for n requests, eager and compiled, with {start} s to the first answer and {each} "
        f"ms a request: the compiled one is no slower from request {paid:,.0f} on."
    )


explore(
    draw_break_even,
    {"start": [0.1, 1.0, 10.0, 60.0], "each": [0.5, 1.5]},
    initial={"start": 10.0, "each": 1.5},
    name="When has the compiler paid?",
    alt=told_break_even,
)

# %% [markdown] tags=["slide"]
# ## The idea
#
# Eager PyTorch runs one operator after the other. Each costs a start (Python, dispatch, a new
# tensor) and its work, and passes its result through memory. With $k$ operators, a start of $c$
# each, and work of $w$ a row, a batch of $n$ takes about
#
# $$
# t(n) = c\,k + w\,n .
# $$ (eq-aot-time)
#
# A compiler writes down the graph of operators, joins neighbours into one loop (*fusion*), and
# makes code for it {cite:p}`ansel2024pytorch2`. That lowers $c\,k$, and $w$ where memory was the
# limit. It hardly changes a matrix product, which was fast code before. So expect a gain at small
# batches and small layers, and little elsewhere.
#
# If the compiler takes $C$ seconds more until the first answer, and saves $t - t'$ on each request,
# it has paid after
#
# $$
# n^\ast = \frac{C}{t - t'}
# $$ (eq-aot-break-even)
#
# requests. `torch.compile` pays $C$ in each new server process. Ahead of time, $C$ is paid once, on
# another machine, and a server pays for loading only.
#
# Three steps lead to such a file:
#
# 1. **`torch.export`** runs the model once on symbols, and keeps the operators that it saw. A
#    branch on *values* can't be kept. A batch size can stay a symbol.
# 2. **AOTInductor** turns the graph into C++ (or Triton on a GPU), has g++ compile it, and packs
#    code and weights into one archive.
# 3. **Loading** maps the code into a process. It needs torch, and neither g++ nor the model's
#    Python code.

# %% [markdown] tags=["skip"]
# :::{diagram} figures/2b_ahead_of_time.svg
# ---
# name: fig-aot-path
# alt: Above, once, on the building machine. A model and an example go to torch.export, which makes
#   a graph; AOTInductor makes an archive beside the target; it is loaded there and compared with
#   the model; if equal, a manifest is added and it is renamed into place. Below, in each server.
#   The file's manifest is read and its sum checked; torch, device and processor are compared; only then
#   is the code loaded. Each call's inputs are checked against the manifest.
# ---
# The way of a compiled model. What is drawn dashed refuses, and nothing has changed then.
# :::

# %% [markdown] tags=["skip"]
# {{exercise 123.2b.predict-break-even}}

# %% [markdown] tags=["slide"]
# ## Piece by piece
#
# ### A graph, with a free batch
#
# `torch.export` takes the sizes 0 and 1 for constants, so an example of one row is doubled first.
# Then any number of rows from 1 on is a symbol.

# %%
show_source(export_program)

# %% tags=["nbval-check-output"]
example = (inputs("MLP", 1),)
program = export_program(model("MLP"), example)
for node in program.graph.nodes:
    if node.op == "call_function":
        name = str(node.target).removeprefix("aten.").removesuffix(".default")
        print(name, "->", [s if isinstance(s, int) else "n" for s in node.meta["val"].shape])

# %% tags=["hide-input", "check"]
tried = {}
for seed in SEEDS:
    net = model("MLP", seed)
    graph = export_program(net, example).module()
    for n in (1, 2, 7, 128):
        x = inputs("MLP", n, seed)
        with torch.no_grad():
            tried[seed, n] = torch.equal(graph(x), net(x))
claim(
    "The graph of an example of one row answers as the model does, to the last bit, on {sizes} "
    "rows, for each of {seeds} models.",
    all(tried.values()),
    sizes=", ".join(str(n) for n in sorted({n for _, n in tried})),
    seeds=len(SEEDS),
)

# %% [markdown] tags=["slide"]
# ### Compile, compare, and only then rename
#
# `torch._inductor.aoti_compile_and_package` has an underscore in its path; it is the entry that
# PyTorch documents, and so is `aoti_load_package`. Around the two, ours does what a file of machine
# code needs: it is written beside its place, loaded there, and must equal the model on the example
# and on 1, 2, 3 and 8 rows.

# %%
show_source(compile_ahead_of_time)

# %% [markdown] tags=["skip"]
# What a failure leaves behind can be shown without a compiler. Here one stands in for it that errs
# on one row only, by a ten-thousandth:

# %% tags=["nbval-check-output"]
import zipfile
from unittest import mock


def any_archive(program, path, options):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data", "")


net = model("MLP")
errs = lambda x: net(x) + 1e-4 * (len(x) == 1)  # noqa: E731
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "mlp.pt2"
    path.write_text("the file of yesterday")
    with (
        mock.patch.object(package, "_build", any_archive),
        mock.patch.object(package, "_run", lambda path: errs),
    ):
        try:
            compile_ahead_of_time(net, (inputs("MLP", 4),), path)
        except NotEqualToEager as error:
            print("refused:", "on 1 rows" in str(error))
    print(os.listdir(folder), path.read_text())

# %% [markdown] tags=["slide"]
# ### A manifest, read before any code runs
#
# A package of another torch may crash. An instruction that the processor lacks ends the process:
# g++ is told `-march=native`, so the file is for processors that have all that the building one
# had. So the archive holds a manifest: torch's version, device, machine, instructions, the dtypes
# and shapes of the inputs, and a SHA-256 of all other entries.

# %%
show_source(manifests.check_environment)

# %% tags=["hide-input", "check"]
import dataclasses

here = manifests.environment("cpu")
others = {
    "torch": dataclasses.replace(here, torch="2.5.0"),
    "device": dataclasses.replace(here, device="cuda: some card"),
    "machine": dataclasses.replace(here, machine="riscv64"),
    "instructions": dataclasses.replace(here, instructions=(*here.instructions, "avx9")),
}
refusals = {}
for name, there in others.items():
    try:
        manifests.check_environment(there, here)
    except WrongEnvironment as error:
        refusals[name] = str(error)
manifests.check_environment(here, here)
claim(
    "Refused, each in words: a file of another {names}. The one of this machine is not. "
    "Instructions, for example: “{shown}”.",
    list(refusals) == list(others),
    names=", ".join(others),
    shown=refusals.get("instructions"),
)

# %% [markdown] tags=["skip"]
# Inputs are checked at each call. Compiled code would read a float64 or a transposed matrix as if
# it were what the example was; a test of ours that skips `.contiguous()` gets wrong numbers, and no
# error.

# %% [markdown] tags=["skip"]
# {{exercise 123.2b.accepts}}

# %% [markdown] tags=["slide"]
# ### Compile once
#
# The name of a package in the cache is a hash of all that it depends on. The graph stands for the
# model's source: another file name or a comment changes nothing, another operator does.

# %%
from dlcourse.ml_system_design import package_key

show_source(package_key)

# %% [markdown] tags=["slide"]
# ## The portable form: ONNX
#
# [ONNX](https://onnx.ai) is a graph too, with operators of a standard.
# [ONNX Runtime](https://onnxruntime.ai) loads it on any processor that it is built for, chooses its
# kernels there, and needs no torch. The file is compared with eager before it is renamed into
# place, as above.

# %% [markdown] tags=["skip"]
# Three small networks are trained on 8 × 8 digits, each on its own split; they are used below too.

# %% tags=["hide-input"]
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def digits(seed):
    x, y = load_digits(return_X_y=True)
    split = train_test_split(x.astype("float32") / 16, y, test_size=0.3, random_state=seed)
    return [torch.from_numpy(part) for part in split]


def trained(seed, x, y, steps=120):
    net = model("MLP", seed).train()
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        i = torch.randint(len(x), (64,), generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[i]), y[i]).backward()
        optimizer.step()
    return net.eval()


splits = {seed: digits(seed) for seed in SEEDS}
nets = {seed: trained(seed, splits[seed][0], splits[seed][2]) for seed in SEEDS}

# %%
folder = Path(tempfile.mkdtemp())
for seed, net in nets.items():
    export_onnx(net, (splits[seed][1][:1],), folder / f"float32-{seed}")

# %% tags=["hide-input", "check"]
apart = {}
for seed, net in nets.items():
    portable = OnnxModel(folder / f"float32-{seed}", threads=1)
    for n in (2, 5, 64):
        x = splits[seed][1][-n:]
        with torch.no_grad():
            exact = net(x)
        gap = (portable(x) - exact).abs() / exact.abs().clamp(min=1)
        apart[seed, n] = float(gap.max())
claim(
    "On {sizes} test digits that it was not compared on, each of the {nets} files is at most "
    "{most:.0e} from eager (an answer above 1 relative to its size).",
    max(apart.values()) <= 1e-5,
    sizes=", ".join(str(n) for n in sorted({n for _, n in apart})),
    nets=len(nets),
    most=max(apart.values()),
)

# %% [markdown] tags=["slide"]
# ## Weights in eight bits
#
# A weight $w$ of column $j$ becomes a whole number $q$ with $w \approx s_j\,(q - z_j)$
# {cite:p}`jacob2018quantization`. The file shrinks to about a quarter, and integer products may be
# faster. *Dynamic* quantisation also turns the activations to eight bits at each call, by the range
# that they have there. What is left of the three networks? That eight-bit weights cost at most
# one point of accuracy was written down before the cell was run.

# %% tags=["hide-input", "check"]
FORMS = ("float32", "uint8", "int8")
size, accuracy, error, ways = {}, {}, {}, {}
for seed in SEEDS:
    _, x_test, _, y_test = splits[seed]
    for form in FORMS[1:]:
        quantize_onnx(folder / f"float32-{seed}", folder / f"{form}-{seed}", weights=form)
    with torch.no_grad():
        exact = nets[seed](x_test)
    for form in FORMS:
        path = folder / f"{form}-{seed}"
        ways[form] = OnnxModel(path, threads=1)
        answer = ways[form](x_test)
        size[form, seed] = path.stat().st_size / 1024
        accuracy[form, seed] = 100 * float((answer.argmax(1) == y_test).float().mean())
        error[form, seed] = float((answer - exact).abs().max())
took = interleaved({f: functools.partial(w, x_test[:32]) for f, w in ways.items()}, repeats=15)


def over(table, form):
    return [table[form, seed] for seed in SEEDS]


say(
    "| weights | file, KiB | right of 100 test digits | largest error of a logit | 32 rows, ms |\n"
    "|---|---|---|---|---|\n"
    + "\n".join(
        f"| {form} | {size[form, 0]:.0f} | {middle(over(accuracy, form), '.1f')} "
        f"| {middle(over(error, form), '.1e')} | {1e3 * statistics.median(took[form]):.2f} |"
        for form in FORMS
    )
    + "\n\nMedian (least–largest) of {n} trained networks and splits, ONNX Runtime; time is a "
    "median of {calls} interleaved calls on the machine that made this page.",
    n=len(SEEDS),
    calls=len(took["uint8"]),
)
lost = [accuracy["float32", s] - accuracy["uint8", s] for s in SEEDS]
claim(
    "uint8 weights take {share:.0%} of the file. Of 100 test digits they lose at most {lost:.1f}, "
    "for each of the networks.",
    max(size["uint8", s] / size["float32", s] for s in SEEDS) < 0.4 and max(lost) <= 1,
    share=size["uint8", 0] / size["float32", 0],
    lost=max(0.0, *lost),
)

# %% [markdown] tags=["skip"]
# Look at the errors of uint8 and int8. On x86 without VNNI, the instruction that multiplies
# unsigned by signed bytes adds two products in **16 bits, and clips** what does not fit
# ([ONNX Runtime's documentation](https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html)
# calls it saturation). Then int8 errs far beyond rounding, without a word. Here uint8 weights are
# the default. So a quantised model that was right on one machine may be wrong on another.

# %% tags=["hide-input", "check"]
spoiled = []
for seed in SEEDS:
    x_test = splits[seed][1]
    quantised, exact = (OnnxModel(folder / f"{f}-{seed}", threads=1) for f in ("uint8", "float32"))
    row, loud = x_test[:1], torch.cat([x_test[:1], 100 * x_test[1:2]])
    mine = float((quantised(row) - exact(row)).abs().max())
    spoiled.append(float((quantised(loud)[:1] - exact(row)).abs().max()) / mine)
claim(
    "The range of the activations is that of the whole batch. If one other row in the batch is a "
    "hundred times as large, the error of a row grows {spoiled} times (three networks). A service "
    "that batches must then bound its inputs, or keep activations in float32.",
    min(spoiled) > 3,
    spoiled=middle(spoiled, ".0f"),
)

# %% [markdown] tags=["skip"]
# {{exercise 123.2b.int8-weights}}

# %% [markdown] tags=["slide"]
# ## How fast is a request?
#
# Three models with random weights, one thread, five ways to run them. In each of three repetitions
# the ways take turns, call by call; a number is the median of a repetition. All files were compared
# with eager when they were written. For some sizes a file is compiled for that batch alone, to see
# what a free batch costs. EfficientNet-Lite0 goes without `torch.compile`, which takes many minutes
# for its 50 convolutions; AOTInductor uses the same compiler.

# %% tags=["long", "hide-input"] name="latency"
from concurrent.futures import ThreadPoolExecutor

folder = Path(tempfile.mkdtemp())
made, runs, pauses = {}, [], []
jobs = [("torch.compile", name, BATCHES[name]) for name in FIXED]
jobs += [("AOTInductor", name, ()) for name in reversed(MODELS)]
jobs += [("fixed batch", name, (n,)) for name, sizes in FIXED.items() for n in sizes]
with ThreadPoolExecutor(max(1, min(len(jobs), os.cpu_count() - 1))) as pool:
    list(pool.map(lambda job: prepare_apart(*job), jobs))  # the compilers' work, side by side
print("compiled", flush=True)
for name in MODELS:
    net, example = model(name), (inputs(name, 2),)
    files = {
        "AOTInductor": compile_once(net, example),
        "ONNX Runtime": folder / f"{name}.onnx",
        "ONNX Runtime, uint8": folder / f"{name}-uint8.onnx",
    }
    onnx_difference = export_onnx(net, example, files["ONNX Runtime"])
    kinds = ["MatMul", "Conv"] if name.startswith("Efficient") else ["MatMul"]
    quantize_onnx(files["ONNX Runtime"], files["ONNX Runtime, uint8"], kinds)
    ways = {way: ready(way, name, files.get(way)) for way in COLOR if in_time(way, name)}
    fixed = {
        n: load_compiled(compile_once(net, (inputs(name, n),), dynamic_batch=False))
        for n in FIXED.get(name, ())
    }
    made[name] = {
        "weights": sum(p.numel() for p in net.parameters()),
        "difference": {
            "AOTInductor": ways["AOTInductor"].manifest.difference,
            "ONNX Runtime": onnx_difference,
        },
        "kib": {way: path.stat().st_size / 1024 for way, path in files.items()},
    }
    for n in BATCHES[name]:
        x = inputs(name, n, seed=1)
        calls = {way: functools.partial(run, x) for way, run in ways.items()}
        if n in fixed:
            calls["fixed batch"] = functools.partial(fixed[n], x)
        with torch.no_grad():
            interleaved(calls, repeats=1, warmup=3)  # torch.compile finds its code here
            for repetition in range(3):
                seconds = interleaved(calls, repeats=30 if name == "MLP" else 10)
                runs += [
                    {"model": name, "rows": n, "way": way, "ms": 1e3 * statistics.median(s)}
                    for way, s in seconds.items()
                ]
        print(name, n, {r["way"]: round(r["ms"], 3) for r in runs[-len(calls) :]}, flush=True)
        if (name, n) == ("ViT", 32):
            with torch.no_grad():
                for repetition in range(3):
                    for way, call in calls.items():
                        took, pause = longest_pause(call)
                        pauses.append({"way": way, "ms": 1e3 * took, "pause": 1e3 * pause})
            print(pauses[-len(calls) :], flush=True)
keep(made=made, runs=runs, pauses=pauses)

# %% mystnb={"figure": {"caption": "How many times as fast as eager, by batch size: medians of three repetitions, with their range. Above 1 is faster.", "name": "fig-aot-latency"}, "image": {"alt": "Three panels, one a model, with the speed against eager over the batch size for torch.compile, AOTInductor, ONNX Runtime and ONNX Runtime with uint8 weights. The table below has the numbers."}} tags=["hide-input", "plot"]
LATENCY = values_of("123.2b.latency", "made", "runs", "pauses")
if LATENCY:
    def ms(name, rows, way):
        """The medians of the repetitions."""
        found = [
            r["ms"] for r in LATENCY["runs"] if (r["model"], r["rows"], r["way"]) == (name, rows, way)
        ]
        return np.array(found)

    fig, axes = plt.subplots(1, len(BATCHES), figsize=(7.4, 2.8), sharey=True, constrained_layout=True)
    for ax, (name, sizes) in zip(axes, BATCHES.items(), strict=True):
        for way in [w for w in COLOR if w != "eager" and in_time(w, name)]:
            gain = np.array([ms(name, n, "eager") / ms(name, n, way) for n in sizes])  # (sizes, 3)
            ax.plot(sizes, np.median(gain, 1), "o-", ms=3, color=COLOR[way], label=way)
            ax.fill_between(sizes, gain.min(1), gain.max(1), color=COLOR[way], alpha=0.2)
        ax.axhline(1, color="k", ls=":", lw=1)
        ax.set(xscale="log", xlabel="batch (rows)", title=name, xticks=sizes, xticklabels=sizes)
        ax.minorticks_off()
    axes[0].set_ylabel("times as fast as eager")
    axes[0].legend(fontsize=7)
else:
    fig, ax = plt.subplots(figsize=(7.4, 2.8))
    ax.text(0.5, 0.5, "not recorded yet", ha="center", va="center", transform=ax.transAxes)
    ax.set(xlabel="batch (rows)", ylabel="times as fast as eager")
plt.show()

# %% tags=["hide-input", "check"]
if LATENCY:
    say(
        "| model | rows | " + " | ".join(f"{way}, ms" for way in COLOR) + " |\n"
        + "|---" * (2 + len(COLOR)) + "|\n"
        + "\n".join(
            f"| {name} | {n} | "
            + " | ".join(
                middle(ms(name, n, way), ".3g") if in_time(way, name) else "not measured"
                for way in COLOR
            )
            + " |"
            for name, sizes in BATCHES.items()
            for n in sizes
        )
        + "\n\nMedian (least–largest) of three repetitions, one thread."
    )  # fmt: skip

    def always(faster, slower):
        """The places in which the first way is faster than the second in each of the repetitions."""
        found = [
            f"{name} {n}"
            for name, sizes in BATCHES.items()
            for n in sizes
            if (ms(name, n, faster) < ms(name, n, slower)).all()
        ]
        return ", ".join(found) or "none"

    differences = [d for m in LATENCY["made"].values() for d in m["difference"].values()]
    claim(
        "All files were within {most:.1e} of eager, where 10⁻⁵ was allowed. AOTInductor was faster "
        "than eager in all three repetitions at (model, rows): {wins}; slower in all three at: "
        "{losses}. ONNX Runtime was faster than AOTInductor in all three at: {onnx}; slower in all "
        "three at: {not_onnx}. Elsewhere no order shows.",
        max(differences) <= 1e-5,
        most=max(differences),
        wins=always("AOTInductor", "eager"),
        losses=always("eager", "AOTInductor"),
        onnx=always("ONNX Runtime", "AOTInductor"),
        not_onnx=always("AOTInductor", "ONNX Runtime"),
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# **A free batch, and eight bits.** What did it cost that the batch stayed a symbol, and what did
# eight-bit weights give?

# %% tags=["hide-input", "check"]
if LATENCY:
    free = {
        f"{name}, {n} rows": ms(name, n, "AOTInductor") / ms(name, n, "fixed batch")
        for name, sizes in FIXED.items()
        for n in sizes
    }
    say(
        "| compiled for | time with a free batch, over a fixed one |\n|---|---|\n"
        + "\n".join(f"| {place} | {middle(ratio)} |" for place, ratio in free.items())
        + "\n\n| model | float32 ONNX, KiB | uint8, KiB | uint8 is faster in all three at (rows) |\n"
        "|---|---|---|---|\n"
        + "\n".join(
            f"| {name} | {made['kib']['ONNX Runtime']:,.0f} | {made['kib']['ONNX Runtime, uint8']:,.0f}"
            " | "
            + (
                ", ".join(
                    str(n)
                    for n in BATCHES[name]
                    if (ms(name, n, "ONNX Runtime, uint8") < ms(name, n, "ONNX Runtime")).all()
                )
                or "none"
            )
            + " |"
            for name, made in LATENCY["made"].items()
        )
        + "\n\nRatios: median (least–largest) of three repetitions. A fixed batch also costs a run of "
        "the compiler, and a file, for each size."
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# **Who waits while a call runs?** A service has an event loop beside the model's thread, and both
# need Python's interpreter. Beside each call of the ViT with 32 rows a second thread counts; a pause
# as long as the call means that the call keeps the interpreter to itself.

# %%
show_source(longest_pause)

# %% tags=["hide-input", "check"]
if LATENCY:
    def beside(way, key):
        """Times of a call or of the pause, one a repetition."""
        return np.array([row[key] for row in LATENCY["pauses"] if row["way"] == way])

    shown = list(dict.fromkeys(row["way"] for row in LATENCY["pauses"]))
    say(
        "| | a call, ms | another thread stands still, ms |\n|---|---|---|\n"
        + "\n".join(
            f"| {way} | {middle(beside(way, 'ms'))} | {middle(beside(way, 'pause'))} |"
            for way in shown
        )
        + "\n\nMedian (least–largest) of three repetitions."
    )
    share = beside("AOTInductor", "pause") / beside("AOTInductor", "ms")
    claim(
        "PyTorch's loader of AOTInductor packages keeps the interpreter for {share} of the call; "
        "eager gives it away for more than that. Such a model belongs into a process of its own "
        "where one thread must answer many callers (`ModelProcess` of 123.2a).",
        share.min() > 0.8
        and share.min() > (beside("eager", "pause") / beside("eager", "ms")).max(),
        share=middle(share),
    )  # fmt: skip
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ## The first answer
#
# Each number below is a new process in which torch is imported and nothing else, until its first
# answer. `torch.compile` starts once with an empty folder for its code, and once with the folder of
# a start before. The compiler's own run is in the table too: ahead of time it is paid once.

# %% tags=["long", "hide-input"] name="cold-start"
from concurrent.futures import ThreadPoolExecutor

STARTS = ("eager", "torch.compile", "torch.compile, again", "AOTInductor", "ONNX Runtime")
SMALL, starts, steady = ("MLP", "ViT"), [], []
folder = Path(tempfile.mkdtemp())


def note(name, way, *arguments):
    seconds = cold_start(way.removesuffix(", again"), name, *arguments)
    starts.append({"model": name, "way": way, "s": seconds})
    print(name, way, f"{seconds:.2f} s", flush=True)


def compiled_alone(name, repetition):  # each with an empty folder of its own
    note(name, "compiling", folder / f"{name}-{repetition}.pt2", tempfile.mkdtemp())


def started(name, repetition):
    cache, files = tempfile.mkdtemp(), files_of(name)
    for way in ("importing", *STARTS):
        note(name, way, files.get(way), cache)


def files_of(name):
    return {"AOTInductor": folder / f"{name}-0.pt2", "ONNX Runtime": folder / f"{name}.onnx"}


for name in SMALL:
    export_onnx(model(name), (inputs(name, 2),), files_of(name)["ONNX Runtime"])
pairs = SMALL * 3, [0, 0, 1, 1, 2, 2]
# Each process works on one core, but for g++ and the compiler's helpers: a third of the cores.
with ThreadPoolExecutor(max(1, min(6, os.cpu_count() // 3))) as pool:
    list(pool.map(compiled_alone, *pairs))
    list(pool.map(started, *pairs))
for name in SMALL:
    files = files_of(name)
    x = inputs(name, 1, seed=1)
    ways = {w: ready(w, name, files.get(w)) for w in STARTS if "again" not in w}
    with torch.no_grad():
        calls = {way: functools.partial(run, x) for way, run in ways.items()}
        interleaved(calls, repeats=1, warmup=3)
        for repetition in range(3):
            for way, s in interleaved(calls, repeats=30).items():
                steady.append({"model": name, "way": way, "s": statistics.median(s)})
keep(starts=starts, steady=steady)

# %% tags=["hide-input", "check"]
COLD = values_of("123.2b.cold-start", "starts", "steady")
if COLD:
    def of(rows, name, way):
        """Seconds, one a repetition."""
        return np.array([r["s"] for r in COLD[rows] if (r["model"], r["way"]) == (name, way)])

    def paid(name, way, extra=0.0):
        """Requests after which a way has caught up with eager, by the medians, as text."""
        each = way.removesuffix(", again")
        n = break_even_requests(
            extra + float(np.median(of("starts", name, way))),
            float(np.median(of("steady", name, each))),
            float(np.median(of("starts", name, "eager"))),
            float(np.median(of("steady", name, "eager"))),
        )
        return "at no number" if n == float("inf") else f"{n:,.0f}"

    lines = ["| model | | first answer, s | then a request, ms | has caught up with eager after |"]
    lines.append("|---" * 5 + "|")
    for name in ("MLP", "ViT"):
        compiling = of("starts", name, "compiling")
        for way in ("eager", "torch.compile", "torch.compile, again", "AOTInductor", "ONNX Runtime"):
            caught = "" if way == "eager" else paid(name, way)
            if way == "AOTInductor":
                caught += f"; with the compiler's {middle(compiling, '.0f')} s: "
                caught += paid(name, way, float(np.median(compiling)))
            each = 1e3 * of("steady", name, way.removesuffix(", again"))
            lines.append(
                f"| {name} | {way} | {middle(of('starts', name, way))} | {middle(each, '.3g')} "
                f"| {caught} |"
            )
    say(
        "\n".join(lines) + "\n\nMedian (least–largest) of three repetitions; requests of one row, "
        "one after the other, counted from the medians. 0 means that it was no later from the "
        "start, “at no number” that a request was slower than eager's. AOTInductor's first answer "
        "includes the import of PyTorch's documented loader, which brings the compiler's Python "
        "code along; alone in a process that import took {importing} s.",
        importing=middle(np.concatenate([of("starts", m, "importing") for m in ("MLP", "ViT")])),
    )
    claim(
        "In each repetition of each model, AOTInductor's file gives its first answer sooner than "
        "torch.compile with an empty folder: {gain} times as soon.",
        all((of("starts", m, "AOTInductor") < of("starts", m, "torch.compile")).all()
            for m in ("MLP", "ViT")),
        gain="; ".join(
            f"{m} {middle(of('starts', m, 'torch.compile') / of('starts', m, 'AOTInductor'), '.0f')}"
            for m in ("MLP", "ViT")
        ),
    )  # fmt: skip
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ## At scale: a transformer on a GPU, behind the service
#
# A GPU runs operators so fast that at small batches it waits for the host to start the next. A
# **CUDA graph** records all starts once and replays them as one; it holds for one shape and for
# [fixed addresses](https://docs.pytorch.org/docs/stable/torch.compiler_cudagraph_trees.html). So
# batches are padded to a few sizes. `torch.compile`
# does it with `mode="reduce-overhead"`, and its graphs belong to the thread that made them:
# compile, warm up and serve in one thread.

# %%
show_source(pad_batches)

# %% [markdown] tags=["skip"]
# {{exercise 123.2b.padded-share}}

# %% [markdown] tags=["slide"]
# ViT-B/16 in bfloat16 with random weights (enough for speed) stands behind the `ModelService` of
# 123.2a; pictures come as bytes. Poisson arrivals at four rates, 3 seconds each, three repetitions,
# in which the forms take turns. "One by one" is eager without batching. AOTInductor compiles in a
# process of its own: what crashes there fails alone.

# %% tags=["definitions", "hide-input", "skip"]
SIZES = (2, 4, 8, 16, 32)  # one row would be compiled apart: it is padded to two


async def under_load(predict, batch, rate, seconds, pictures, seed):
    """Offer ``rate`` requests/s for a while: what was served, refused, and how long it took."""
    arrivals = poisson_arrivals(rate, max(20, int(rate * seconds)), seed)
    took = np.full(len(arrivals), np.nan)
    async with ModelService(predict, batch, 0.0, max_queue=128, cache_size=0) as service:
        begin = time.perf_counter()

        async def one(i):
            try:
                picture = pictures[i % len(pictures)].copy()
                picture[0, 0, 0:4] = np.frombuffer(np.int32(i).tobytes(), np.uint8)  # no two alike
                await service.submit(picture)
                took[i] = time.perf_counter() - begin - arrivals[i]
            except ServiceFull:
                pass

        tasks = []
        for i, due in enumerate(arrivals):
            await asyncio.sleep(max(0.0, due - (time.perf_counter() - begin)))
            tasks.append(asyncio.create_task(one(i)))
        await asyncio.gather(*tasks)
        wall = time.perf_counter() - begin
    answered = took[~np.isnan(took)]
    p50, p99 = 1e3 * np.percentile(answered, (50, 99))
    return {
        "served": len(answered) / wall, "refused": 1 - len(answered) / len(took),
        "p50": float(p50), "p99": float(p99),
    }  # fmt: skip


def forms_of(net, example, owner, device, toy, folder):
    """The forms of a model as functions (n, …) uint8 array -> (n, classes); and what failed."""

    def served(function):
        @torch.no_grad()
        def run(x):
            return function(torch.from_numpy(x).to(device)).float().cpu().numpy()

        return lambda x: owner.call(run, x)

    def graphs():
        return pad_batches(torch.compile(net, mode="reduce-overhead", dynamic=True), SIZES)

    def ahead():
        difference = compile_vit_apart(device, net.dtype, toy, folder / "vit.pt2")
        print(f"AOTInductor: largest relative difference to eager {difference:.2g}")
        return load_compiled(folder / "vit.pt2")

    makers = {"eager": lambda: net, "CUDA graphs": graphs, "AOTInductor": ahead}
    forms, failed, seconds = {}, {}, {}
    for name, make in makers.items():
        start = time.perf_counter()
        try:
            form = served(owner.call(make))
            for n in 3 * SIZES:  # compiles, and records a graph a size
                form(np.repeat(example[:1].cpu().numpy(), n, axis=0))
            forms[name] = form
        except Exception as error:  # a form that fails here shall not cost the others
            failed[name] = f"{type(error).__name__}: {error}"[:300]
            print(name, "failed:", failed[name])
        seconds[name] = time.perf_counter() - start
    return forms, failed, seconds


# %% tags=["gpu", "hide-input"] name="gpu"
toy = not torch.cuda.is_available()  # a small run on a CPU, to see that the cell works
device, dtype, side = ("cpu", torch.float32, 32) if toy else ("cuda", torch.bfloat16, 224)
rates, seconds = ((50, 200), 0.3) if toy else ((200, 1000, 2000, 3000), 3.0)
net, owner = vit_b16(device, dtype, toy), OneThread()
pictures = np.random.default_rng(0).integers(0, 256, (64, 3, side, side), dtype=np.uint8)
example = torch.from_numpy(pictures[:4]).to(device)
forms, failed, ready_seconds = forms_of(
    net, example, owner, device, toy, Path(tempfile.mkdtemp())
)
print({name: f"ready after {s:.0f} s" for name, s in ready_seconds.items()}, flush=True)

calls, runs = [], []
for repetition in range(3):
    for n in (1, 32):
        batch = {name: functools.partial(form, pictures[:n]) for name, form in forms.items()}
        for name, s in interleaved(batch, repeats=10, warmup=2).items():
            calls.append({"form": name, "rows": n, "ms": 1e3 * statistics.median(s)})
    served = [("eager, one by one", forms["eager"], 1)]
    served += [(f"{name}, batches", form, 32) for name, form in forms.items()]
    for rate in rates:
        for k in range(len(served)):
            name, form, most = served[(k + repetition) % len(served)]
            found = await under_load(form, most, rate, seconds, pictures, repetition)
            runs.append({"form": name, "rate": rate, **found})
            print(rate, name, {k: round(v, 2) for k, v in found.items()}, flush=True)
owner.close()
keep(calls=calls, runs=runs, failed=failed, ready=ready_seconds, rates=list(rates))

# %% tags=["hide-input", "check"]
GPU = values_of("123.2b.gpu", "runs", "calls", "rates", "ready", "failed")


def load_of(form, rate, key):
    return [r[key] for r in GPU["runs"] if (r["form"], r["rate"]) == (form, rate)]


def call_of(form, rows):
    return [r["ms"] for r in GPU["calls"] if (r["form"], r["rows"]) == (form, rows)]


if GPU:
    gpu_forms = list(dict.fromkeys(r["form"] for r in GPU["runs"]))
    lines = ["| offered /s | | served /s | p50 ms | p99 ms | refused |", "|---" * 6 + "|"]
    for rate in GPU["rates"]:
        for form in gpu_forms:
            cells = [middle(load_of(form, rate, "served"), ".0f")]
            cells += [middle(load_of(form, rate, key), ".1f") for key in ("p50", "p99")]
            refused = [100 * share for share in load_of(form, rate, "refused")]
            cells.append(middle(refused, ".0f") + " %")
            lines.append(f"| {rate} | {form} | " + " | ".join(cells) + " |")
    lines += ["", "| the model alone | 1 picture, ms | 32 pictures, ms | ready after, s |"]
    lines.append("|---" * 4 + "|")
    for form, ready_after in GPU["ready"].items():
        if form in GPU["failed"]:
            lines.append(f"| {form} | failed: {GPU['failed'][form]} | | |")
        else:
            alone = [middle(call_of(form, rows)) for rows in (1, 32)]
            lines.append(f"| {form} | {alone[0]} | {alone[1]} | {ready_after:.0f} |")
    say(
        "\n".join(lines) + "\n\nMedian (least–largest) of three repetitions. Times of the model alone "
        "include both copies, to the GPU and back. Ready: compiled, and each size run three times."
    )
    most = GPU["rates"][-1]
    claim(
        "At {rate} pictures/s offered, in each repetition, each form with batching serves more "
        "than eager one by one: {gain} times as many.",
        all(
            min(load_of(form, most, "served")) > max(load_of("eager, one by one", most, "served"))
            for form in gpu_forms[1:]
        ),
        rate=most,
        gain="; ".join(
            f"{form} "
            + middle(
                np.array(load_of(form, most, "served"))
                / np.array(load_of("eager, one by one", most, "served")),
                ".1f",
            )
            for form in gpu_forms[1:]
        ),
    )
    first, batched = GPU["rates"][0], "eager, batches"

    def over_batched(form, rate, key):
        """Ratios to eager with the same batches, paired over the repetitions, as text."""
        ours, eager = (np.array(load_of(f, rate, key)) for f in (form, batched))
        return middle(ours / eager)

    say(
        "**Against eager with the same batches** (median and range of paired ratios): "
        + "; ".join(
            f"{form.removesuffix(', batches')}: p50 {over_batched(form, first, 'p50')} and p99 "
            f"{over_batched(form, first, 'p99')} at {first} pictures/s, served "
            f"{over_batched(form, most, 'served')} at {most}"
            for form in gpu_forms[1:]
            if form != batched
        )
        + ". A ratio of 1 within the range tells nothing apart."
    )
    alone = {form: np.array(call_of(form, 32)) for form in ("eager", "AOTInductor")}
    claim(
        "**Faster alone, slower in the service.** In each repetition AOTInductor's call of 32 "
        "pictures is faster than eager's ({gain} of its time), and at {rate} pictures/s it serves "
        "fewer: {served} of eager's. The requests were late before they reached the queue: of "
        "those that it got, none was refused, and half waited {late} s or more. That fits a call "
        "that keeps the interpreter, so that the event loop stands still, as measured on the "
        "processor above; with the model in a process of its own it was not tried here.",
        (alone["AOTInductor"] < alone["eager"]).all()
        and max(load_of("AOTInductor, batches", most, "served"))
        < min(load_of(batched, most, "served"))
        and max(load_of("AOTInductor, batches", most, "refused")) == 0,
        gain=middle(alone["AOTInductor"] / alone["eager"]),
        rate=most,
        served=over_batched("AOTInductor, batches", most, "served"),
        late=middle(np.array(load_of("AOTInductor, batches", most, "p50")) / 1e3, ".1f"),
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ### Details that papers leave out
#
# 1. **`eval` mode first.** A graph keeps the mode that the model had; a later `eval()` changes
#    nothing in it.
# 2. **0 and 1 are constants** to `torch.export`: double an example of one row.
# 3. **`-march=native`** stands in the compiler's command. Build on the oldest processor that shall
#    run the file.
# 4. **The number of threads is in the code.** AOTInductor writes the number that torch had into its
#    loops; set it as the server will have it. It is part of the cache's key, and of the manifest.
# 5. **Layout.** Compiled code reads by the example's strides: make inputs contiguous, at both ends.
# 6. **A tolerance belongs to a dtype.** 10⁻⁵ suits float32; the ViT in bfloat16 above has its own.
# 7. **A hash finds damage, not an enemy.** A package is machine code: load none that you would not
#    run.
# 8. **Two C++ libraries in one process crash.** On the GPU machine g++ put libstdc++ *into* the
#    package, and loading it ended the process without a word. `ldd` of the package's `.so` must
#    name `libstdc++.so.6`; a compiler that links it (`CXX`) mended it.

# %% [markdown] tags=["slide"]
# ## What experts expect
#
# - **Measure in the service.** A model that is twice as fast alone may change p99 little, where the
#   queue or the parsing takes the time. Little's law says how much.
# - **Fewer shapes.** Padding to a few sizes lets static kernels and graphs be used, and wastes
#   rows. Count the waste on the real mix of batches.
# - **Static quantisation** fixes the ranges of activations on calibration data, so a row no longer
#   depends on its neighbours. Weight-only quantisation (int4, int8) is usual for language models,
#   whose small batches are limited by reading weights.
# - **Roll out like code.** A compiled file is a new release: shadow traffic first, then a canary.
#   Keep the eager model to compare with.
# - **Build in the server's image**, with its torch, in continuous integration: the manifest refuses
#   anything else.

# %% [markdown] tags=["slide"]
# ## Limits
#
# One thread of one processor; with more threads, or another processor, the order may change. Small
# models with random weights show times, not accuracy; accuracy in eight bits is that of small
# digits. Weights are in the archive, so that a file of many gigabytes is built and loaded as one
# (AOTInductor can keep them apart). The check compares a few batches, and proves nothing about
# other inputs. At work: ONNX Runtime for processors of many kinds; TensorRT for NVIDIA's GPUs;
# OpenVINO for Intel's; ExecuTorch for phones, which starts from `torch.export` too.

# %% [markdown] tags=["slide"]
# ## Slips that still run
#
# The chapter began with a short listing that wanted to compile ahead of time. It calls a *module*
# as if it were a function, so that it stops at once, and it writes no file. The {doc}`errata
# </book/errata>` list its slips, each with a test. One of them would go on unseen: it traces the
# model in whatever mode it is.

# %% tags=["nbval-check-output"]
class Dropped(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.5, self.training)


torch.manual_seed(0)
traced = torch.fx.symbolic_trace(Dropped()).eval()
print("zeros after eval():", bool((traced(torch.ones(1000)) == 0).any()))
try:
    export_program(Dropped(), (torch.ones(1, 1000),))
except ValueError as error:
    print("ours:", error)

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 123.2b}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - A compiler saves starts of operators and trips through memory; large products stay as they were.
# - Ahead of time, it is paid once; a server only loads.
# - Compare with eager before a file takes its place, and read its manifest before its code runs.
# - A free batch, a thread count, a processor: what was fixed when compiling must be known later.
# - Eight bits: a quarter of the file; check the errors on the processor that will serve.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
