"""What a program takes, and how near that is to what the device can do."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SECONDS = 6.0
"""How long a measurement goes on at most, once it has two rounds."""

PASSES = 6
"""Passes of bfloat16 that a TPU makes one float32 product of."""


class Peaks(NamedTuple):
    """What a device can do: bytes a second of its memory, and float32 operations a second outside its tensor cores."""

    bandwidth: float
    flops: float
    source: str = "stated"


class Work(NamedTuple):
    """The least that is to be done: each array read or written once, and the operations of the steps that are fixed."""

    bytes: float
    flops: float


STATED = {
    "NVIDIA H200": Peaks(4.8e12, 67e12),
    "NVIDIA H100 80GB HBM3": Peaks(3.35e12, 67e12),
    "NVIDIA H100 PCIe": Peaks(2.0e12, 51e12),
    "NVIDIA A100-SXM4-40GB": Peaks(1.555e12, 19.5e12),
    "NVIDIA A100-SXM4-80GB": Peaks(2.039e12, 19.5e12),
    "NVIDIA A100 80GB PCIe": Peaks(1.935e12, 19.5e12),
    "NVIDIA L4": Peaks(0.3e12, 30.3e12),
    "TPU v4": Peaks(1.228e12, 275e12 / PASSES),
    "TPU v5 lite": Peaks(0.819e12, 197e12 / PASSES),
    "TPU v5e": Peaks(0.819e12, 197e12 / PASSES),
    "TPU v5": Peaks(2.765e12, 459e12 / PASSES),
    "TPU v5p": Peaks(2.765e12, 459e12 / PASSES),
}
"""By the maker's data sheets, without sparsity. A part of a device has another name, and is measured."""


class Program(NamedTuple):
    """A compiled program, and what compiling it tells."""

    call: Callable[..., Any]
    facts: dict[str, float | None]


def compiled(function: Callable[..., Any], *arguments: Any, gives_up: tuple[int, ...] = ()) -> Program:  # noqa: ANN401 any pytrees
    """The function compiled for these arguments; `gives_up` are those whose buffers are given up."""
    began = time.perf_counter()
    program = jax.jit(function, donate_argnums=gives_up).lower(*arguments).compile()
    facts: dict[str, float | None] = {"compile_seconds": time.perf_counter() - began}
    cost, memory = program.cost_analysis() or {}, program.memory_analysis()
    facts |= {"counted_bytes": cost.get("bytes accessed"), "counted_flops": cost.get("flops")}
    if memory is not None:
        sizes = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        facts["program_bytes"] = float(sizes - memory.alias_size_in_bytes)
    return Program(program, facts)


def timed(call: Callable[[], Any], rounds: int) -> list[float]:
    """Wall times of a call whose results are waited for, after one that warms up."""
    jax.block_until_ready(call())
    times, began = [], time.perf_counter()
    while len(times) < rounds and (len(times) < 2 or time.perf_counter() - began < SECONDS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times


def told(times: list[float], work: Work, peaks: Peaks, facts: dict[str, float | None]) -> dict[str, Any]:
    """A measurement as it is written down: the median time, and the share of what the device could have done in it."""
    seconds = float(np.median(times))
    shares = {
        "bandwidth_share": work.bytes / seconds / peaks.bandwidth,
        "flops_share": work.flops / seconds / peaks.flops,
    }
    spread = {"rounds": len(times), "fastest": min(times), "slowest": max(times)}
    least = {"bytes": float(work.bytes), "flops": float(work.flops)}
    return {"seconds": seconds, **spread, **facts, **least, **shares, "peak_bytes": peak_bytes()}


def peak_bytes() -> int | None:
    """The most memory that the device has held since the process began; `None` where it doesn't say."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def measured_peaks(numbers: int, side: int) -> Peaks:
    """What a copy of so many numbers reaches, and a float32 product of square matrices."""
    copy = jax.jit(lambda x: x + 1)
    given = jnp.zeros(numbers)
    bandwidth = 2 * given.nbytes / min(timed(lambda: copy(given), 5))
    product = jax.jit(lambda x: jnp.matmul(x, x, precision="highest"))
    matrix = jnp.ones((side, side))
    return Peaks(bandwidth, 2 * side**3 / min(timed(lambda: product(matrix), 5)), "measured")
