"""Forward and backward pass of the masked autoencoder beside transformers' ViTMAE.

    python benchmarks/masked_autoencoders.py [--quick] [--device cpu|cuda] [--repetitions N]

A ViT-Ti of 64 patches (12 blocks of width 192) and a decoder of 4 blocks of width 128; batch 64.
The repetitions of all are interleaved, and the smallest time of each counts, so that another
process on the machine disturbs all alike. On a CPU one thread is used and its processor time
counts. Kept: what the forward pass keeps for the backward pass.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import dlcourse  # noqa: F401  (before transformers: it makes torchvision importable)
import torch
from torch import Tensor, nn

from dlcourse.measure import interleaved, saved_bytes
from dlcourse.self_supervised_learning import MaskedAutoencoder, VisionTransformer

SIZE, PATCH = 64, 8
RATIOS = (0.5, 0.75, 0.9)


@dataclass
class Entry:
    """One way to compute the loss, with its own model."""

    name: str
    model: nn.Module
    loss: Callable[[], Tensor]

    def step(self) -> None:
        """A forward and a backward pass."""
        self.model.zero_grad()
        self.loss().backward()


def entries(ratio: float, batch: int, depth: int, device: str) -> list[Entry]:
    """Ours in both forms, and transformers' with SDPA and with plain attention."""
    images = torch.rand(batch, 3, SIZE, SIZE, device=device)
    noise = torch.rand(batch, (SIZE // PATCH) ** 2, device=device)

    def ours() -> MaskedAutoencoder:
        encoder = VisionTransformer(SIZE, PATCH, embed_dim=192, depth=depth, num_heads=3)
        return MaskedAutoencoder(encoder, 128, 4, 4, ratio).to(device)

    whole, lean = ours(), ours()
    found = [
        Entry("dlcourse forward", whole, lambda: whole(images, noise)[0]),
        Entry("dlcourse training_loss", lean, lambda: lean.training_loss(images, noise)),
    ]
    try:
        from transformers import ViTMAEConfig, ViTMAEForPreTraining
    except ImportError:
        print("transformers is not installed: left out")
        return found
    for attention in ("sdpa", "eager"):
        config = ViTMAEConfig(
            hidden_size=192, num_hidden_layers=depth, num_attention_heads=3, intermediate_size=768,
            image_size=SIZE, patch_size=PATCH, layer_norm_eps=1e-6, mask_ratio=ratio,
            decoder_hidden_size=128, decoder_num_hidden_layers=4, decoder_num_attention_heads=4,
            decoder_intermediate_size=512, norm_pix_loss=True, attn_implementation=attention,
        )  # fmt: skip
        theirs = ViTMAEForPreTraining(config).to(device)
        name = f"transformers {attention}"
        found.append(Entry(name, theirs, lambda m=theirs: m(images, noise=noise).loss))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="small, few repetitions")
    parser.add_argument("--repetitions", type=int, help="default 10, with --quick 3")
    args = parser.parse_args()

    if args.device == "cpu":
        torch.set_num_threads(1)
    batch, depth = (8, 2) if args.quick else (64, 12)
    repetitions = args.repetitions or (3 if args.quick else 10)
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU, one thread"
    print(f"torch {torch.__version__}, {where}; the smallest of {repetitions} interleaved times")
    for ratio in RATIOS:
        found = entries(ratio, batch, depth, args.device)
        times = interleaved(
            {entry.name: entry.step for entry in found},
            args.device,
            repeats=repetitions,
            clock="processor",
        )
        best = {name: min(seconds) for name, seconds in times.items()}
        peers = [seconds for name, seconds in best.items() if name.startswith("transformers")]
        print(f"\nmask ratio {ratio:g}, batch {batch}, {depth} blocks")
        print(f"{'':26}{'ms':>8}{'speed':>8}{'kept, MB':>10}")
        for entry in found:
            speed = f"{min(peers) / best[entry.name]:.2f}" if peers else "–"
            kept = saved_bytes(entry.loss, entry.model) / 1e6
            print(f"{entry.name:26}{1000 * best[entry.name]:8.1f}{speed:>8}{kept:10.0f}")
    print("\nspeed: relative to the faster of transformers' two, above 1 is faster")


if __name__ == "__main__":
    main()
