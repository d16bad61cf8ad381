"""What a training will need: memory, time and utilisation, foreseen from a few numbers.

Chapter: ``119_large_scale_training/1a_distributed``.

Papers: Rajbhandari et al. (2020), "ZeRO"; Korthikanti et al. (2022), "Reducing Activation
Recomputation in Large Transformer Models"; Chowdhery et al. (2022), "PaLM", appendix B (model FLOPs
utilisation).
"""

from __future__ import annotations

from dataclasses import dataclass

from dlcourse.large_scale_training.distributed._checks import positive
from dlcourse.large_scale_training.distributed.communication import ring_pass_time
from dlcourse.large_scale_training.distributed.memory import (
    Memory,
    activation_bytes,
    zero_memory,
)
from dlcourse.measure import attention_flops

__all__ = ["H100_PEAK", "Plan", "plan"]

#: Dense bfloat16 FLOP/s of an H100 or H200 (SXM) by NVIDIA's data sheet.
H100_PEAK = 989e12


@dataclass(frozen=True)
class Plan:
    """What ``plan`` foresees for one GPU and one step."""

    layers: int
    hidden: int
    model_state: Memory  # bytes
    activations: float  # bytes
    compute_time: float  # s
    communication_time: float  # s
    step_time: float  # s
    tokens_per_second: float  # of all GPUs
    mfu: float  # useful FLOP/s over the data sheet's peak, 0 .. 1

    @property
    def memory(self) -> float:
        """Bytes of everything."""
        return self.model_state.total + self.activations


def plan(
    parameters: float,
    gpus: int,
    *,
    batch: int,
    sequence: int,
    stage: int = 3,
    recompute: str = "attention",
    peak_flops: float = H100_PEAK,
    efficiency: float = 0.57,
    latency: float = 1e-5,
    bandwidth: float = 50e9,
) -> Plan:
    """Foresee memory, time and utilisation of training a decoder-only transformer.

    Assumptions, each an approximation:
    - shape: parameters = 12 L h² with h = 128 L and heads 128 wide (embeddings left out), which is
      close to the published shapes from 1 to 200 billion;
    - useful work: 6 · parameters + 6 L h s FLOPs a token. Attention is counted by half, since a
      causal kernel skips what the mask hides (Chowdhery et al. 2022, appendix B, count 12 L h s).
      Recomputing costs more time but is not useful;
    - the work runs at ``efficiency`` of ``peak_flops``;
    - 16-bit weights and gradients, Adam in 32 bits: ``zero_memory``'s defaults; ``Memory`` has no
      room for buffers of messages and fragmentation;
    - messages go round a ring of all GPUs: one all-reduce of the gradients for stage 0, the same
      volume for 1 and 2, half as much again for 3, which also gathers the weights twice
      (Rajbhandari et al. 2020, section 7), block by block;
    - they are hidden behind the computing as far as it lasts: step = max(compute, communication).

    Args:
        batch: sequences a step over all GPUs, without accumulation.
        sequence: tokens a sequence.
        stage, recompute: as in ``zero_memory`` and ``activation_bytes``.
        peak_flops: dense 16-bit FLOP/s of one GPU by its data sheet, as MFU is defined.
        latency, bandwidth: of a message, in s, and of one GPU's link, in bytes/s.

    Raises ValueError if a number is not above 0, or a GPU would get less than one sequence.
    """
    positive(parameters=parameters, gpus=gpus, sequence=sequence, peak_flops=peak_flops)
    positive(efficiency=efficiency)
    if batch < gpus:
        raise ValueError(f"batch {batch} leaves some of {gpus} GPUs without a sequence")
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    hidden = 128 * layers
    tokens = batch * sequence / gpus  # of one GPU

    attention = 3 * attention_flops(sequence, hidden, layers, causal=True) / sequence
    useful = (6 * parameters + attention) * tokens
    # To compute the attention again is a third of it: the forward pass.
    again = {"nothing": 0, "attention": attention / 3, "blocks": 2 * parameters + attention / 3}
    activations = activation_bytes(batch / gpus, sequence, hidden, layers, layers, recompute)
    compute = (useful + again[recompute] * tokens) / (peak_flops * efficiency)

    passes = {0: 2, 1: 2, 2: 2, 3: 3}
    state = zero_memory(parameters, gpus, stage)
    a_pass = ring_pass_time(2 * parameters / layers, gpus, latency, bandwidth)  # of one block
    communication = passes[stage] * layers * a_pass

    step = max(compute, communication)
    return Plan(
        layers=layers,
        hidden=hidden,
        model_state=state,
        activations=activations,
        compute_time=compute,
        communication_time=communication,
        step_time=step,
        tokens_per_second=batch * sequence / step,
        mfu=useful / (step * peak_flops),
    )
