# %% [markdown]
# (sec-120)=
# # 120 Self-supervised learning
#
# Labels are dear, images are not. Self-supervised learning makes a task from the images alone:
# hide a part and ask for it, or change the picture and ask what has stayed the same. Nobody wants
# the answers. What one wants is the encoder that had to learn about images in order to give them.
#
# | section | the task | what it must not do | what you build |
# |---|---|---|---|
# | {doc}`120.1a Contrastive learning <1a_contrastive>` | recognise two views of one image among many | look at what the views share by accident | NT-Xent, SimCLR |
# | {doc}`120.1b DINO <1b_dino>` | say about a small crop what a teacher says about a large one | give one answer to everything | DINO's head and losses, iBOT, KoLeo, Sinkhorn–Knopp, multi-crop |
# | {doc}`120.1c SimMIM <1c_simmim>` | paint hidden blocks | copy the pixels next to them | block masks, the masked L1 loss |
# | {doc}`120.2 Masked autoencoders <2_masked_autoencoders>` | paint three quarters of an image, from the rest | spend time on what is hidden | random masking, an encoder that sees visible patches only |
#
# The document lists the last three under two titles: its 120.1, "contrastive learning", holds SimMIM
# and DINOv2 and nothing contrastive; its 120.2 is the masked autoencoder. None of its three listings
# runs. The {doc}`errata </book/errata>` say why, each with a test.
#
# The sections can be read in any order. Each takes about an hour, and none needs a GPU: where one
# would tell more, you see what was recorded on one.

# %% [markdown]
# ## What you will be able to do
#
# - Write each method's loss from its equation, and prove it right against an independent one.
# - Say what a method's encoder will ignore, before you train it.
# - See a collapse coming, and know which part of a method prevents it.
# - Measure a representation with few labels and without fooling yourself.
#
# ## One result to begin with
#
# Here are painted pictures. Each has a **shape**, a **hue** and a background **texture**, drawn
# independently, besides position, size, angle and brightness. Suppose a few of them were labelled.
# The simplest classifier gives an image the label of the nearest labelled one. Nearest in what? The
# obvious distance is between pixels.

# %% tags=["definitions"]
import matplotlib.pyplot as plt
import torch

from dlcourse.datasets import HUES, SHAPES, TEXTURES, shapes
from dlcourse.notebook import claim

SEEDS = (0, 1, 2)
CLASSES = {"shape": len(SHAPES), "hue": len(HUES), "texture": len(TEXTURES)}


def pictures(seed, label="shape"):
    return shapes(seed, n_train=2000, n_validation=1, n_test=500, label=label)


def nearest(queries, images):
    """Index of the image with the smallest distance in pixels, for each query: (Q,)."""
    return torch.cdist(queries.flatten(1), images.flatten(1)).argmin(1)


agreement = {name: [] for name in CLASSES}  # a list over seeds
for seed in SEEDS:
    data = pictures(seed)
    found = nearest(data.test.x, data.train.x)
    for name in CLASSES:
        labels = pictures(seed, name)
        same = labels.train.y[found] == labels.test.y
        agreement[name].append(same.double().mean().item())

# %% mystnb={"figure": {"caption": "Top: eight pictures that the search had not seen. Below each: its nearest one of 2,000, by pixels. Colour and brightness agree; the shape only now and then.", "name": "fig-pixel-neighbours"}, "image": {"alt": "Two rows of eight small pictures of coloured shapes on patterned backgrounds. Each lower picture has about the colours of the one above it and in most cases another shape."}} tags=["hide-input"]
data = pictures(0)
queries = data.test.x[:8]
rows = [queries, data.train.x[nearest(queries, data.train.x)]]
fig, axes = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
for row, images, title in zip(axes, rows, ["query", "nearest"], strict=True):
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image.permute(1, 2, 0))
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(title)
plt.show()

# %% tags=["hide-input"]
share = {name: torch.tensor(values) for name, values in agreement.items()}
claim(
    "The nearest image in pixels has the same hue in {hue:.0f} ± {hue_std:.0f}"
    " % of the cases (chance: {hue_chance:.0f} %), the same shape in"
    " {shape:.0f} ± {shape_std:.0f} % (chance: {shape_chance:.1f} %), the same"
    " texture in {texture:.0f} ± {texture_std:.0f} % (chance:"
    " {texture_chance:.0f} %); over {n} sets of pictures.",
    share["hue"].min() > 0.5
    and share["shape"].max() < 0.3
    and share["texture"].max() < 0.45,
    n=len(SEEDS),
    **{name: 100 * values.mean().item() for name, values in share.items()},
    **{
        f"{name}_std": 100 * values.std().item()
        for name, values in share.items()
    },
    **{f"{name}_chance": 100 / count for name, count in CLASSES.items()},
)

# %% [markdown]
# The distance of pixels answers one question, which nobody asked. More labels would help it, at a
# price. A *representation* in which the other factors lie open would help more: then a few labels
# are enough to point at the one that is wanted. To find it without labels is what this chapter is
# about.
#
# ## What comes out
#
# Each section has its own experiment, of a few seconds a network: with pixels, an encoder that was
# never trained, and training on the labels alone beside it. The larger ones were recorded on a GPU.
# Three results to look forward to, on pictures like those above:
#
# - With **40 labels** of 4,000, a linear classifier on the features of SimCLR, which had seen 20,000
#   pictures and no label, tells the texture in **97 %** of the cases. The same network trained on the
#   labels alone: 50 %. Pixels: 27 %. Means of 3 seeds ({ref}`120.1a <sec-120-1a>`).
# - The *same* features tell the hue in 18 % of the cases, which is guessing: SimCLR was shown that
#   one picture may have any hue, and believed it. Trained on views that keep their colours, it tells
#   the hue in 89 % and the texture in 38 %.
# - Nobody told DINO what an object is. The shape covers 13 % of the picture; one of the heads of its
#   encoder gives it 54 % of the class token's attention, in the one run that was recorded
#   ({ref}`120.1b <sec-120-1b>`).
#
# It does not always win. On the small experiments that a CPU can do, training on all the labels is
# better, and now and then an encoder with random weights is as good. Each page says where.
#
# ## Before you start
#
# You should be able to read a PyTorch training loop and know what attention computes; each section
# says what it needs beyond that. {doc}`Notation </book/notation>` lists the symbols;
# {doc}`How to use this course </book/how_to_use>` tells how to run a chapter in Colab, JupyterLab or
# Binder. All sections share one Vision Transformer {cite:p}`dosovitskiy2021vit`, cut into the steps
# that they need:

# %%
from dlcourse.notebook import show_source
from dlcourse.self_supervised_learning import (
    VisionTransformer,
    patchify,
    unpatchify,
)

show_source(VisionTransformer.forward_features)
show_source(VisionTransformer.encode)

images = pictures(0).test.x[:4]  # (4, 3, 32, 32)
patches = patchify(images, 4)  # (4, 64, 48)
encoder = VisionTransformer(
    32,
    4,
    embed_dim=48,
    depth=2,
    num_heads=3,
    generator=torch.Generator().manual_seed(0),
)
few = encoder.encode(
    (encoder.embed_patches(images) + encoder.positions((32, 32)))[:, ::4]
)
claim(
    "An image of 32 × 32 is {n} patches of {d} numbers, and they give back the"
    " image to the bit. The encoder takes any of them: from every fourth patch"
    " it makes {few} tokens, the class token in front.",
    torch.equal(unpatchify(patches, 4, (32, 32)), images)
    and few.shape == (4, 17, 48),
    n=patches.shape[1],
    d=patches.shape[2],
    few=few.shape[1],
)

# %% [markdown]
# ## All methods side by side
#
# One encoder, one set of 200,000 pictures, equal time on one GPU. The three cells below were
# recorded; the table after them reads what they kept.

# %% tags=["definitions"]
from dlcourse.notebook import keep
from dlcourse.self_supervised_learning.experiments.benchmark import Benchmark
from dlcourse.self_supervised_learning.experiments.benchmark_methods import (
    Contest,
)

# %% tags=["gpu", "hide-input"] name="benchmark-1"
benchmark = Benchmark(Contest(torch.device("cuda")))
benchmark.method("SimCLR")
benchmark.method("DINO + iBOT")
keep(**benchmark.kept())

# %% tags=["gpu", "hide-input"] name="benchmark-2"
benchmark = Benchmark(Contest(torch.device("cuda")))
benchmark.method("SimMIM")
benchmark.method("MAE")
keep(**benchmark.kept())

# %% tags=["gpu", "hide-input"] name="benchmark-3"
benchmark = Benchmark(Contest(torch.device("cuda")))
benchmark.random()
benchmark.pixels()
benchmark.supervised()
keep(**benchmark.kept())

# %% [markdown]
# ## With your own pictures
#
# Painted pictures need no download, and every factor in them is known. Real ones are loaded by
# `cifar10(root, download=True)`, or from any tree of image files, such as ImageNet's, by
# `image_folder`. The views are then drawn by `torchvision`'s transforms, in the workers of a data
# loader. Here with a folder of four files, made for the purpose:

# %% tags=["nbval-check-output"]
import tempfile
from pathlib import Path

from PIL import Image

from dlcourse.datasets import image_folder
from dlcourse.self_supervised_learning import MultiCrop

with tempfile.TemporaryDirectory() as folder:
    for i, picture in enumerate(pictures(0).test.x[:4]):
        file = Path(folder, "painted", f"{i}.png")
        file.parent.mkdir(exist_ok=True)
        pixels = (255 * picture.permute(1, 2, 0)).byte().numpy()
        Image.fromarray(pixels).resize((96, 96)).save(file)

    crops = MultiCrop(global_size=64, local_size=32, local_crops=4)
    views, labels = next(iter(image_folder(folder, crops, batch_size=4)))
print(f"{len(views)} views of each of {len(labels)} images:")
print([tuple(view.shape) for view in views])

# %% [markdown]
# ## Summary
#
# - A self-supervised task is a means: the encoder that solves it is what one keeps.
# - Every task has a cheap wrong solution: a shortcut, a copy, a constant. A method is known by how it
#   shuts that out.
# - What a task asks decides what its encoder keeps, and what it throws away.
# - Raw pixels, an untrained encoder and training from scratch belong in every comparison.
