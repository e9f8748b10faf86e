"""The chips that programs are compiled for, and their devices as their compilers describe them.

For a TPU the compiler is libtpu, for a GPU JAX's CUDA plugin. Neither needs the chip. A GPU is described in words: XLA
chooses by what is written, first of all by the number of cores and the bandwidth.
"""

import importlib.util
import os
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies


class NotPossible(ValueError):
    """That a program cannot be compiled for a chip here, said in one sentence."""


class Gpu(NamedTuple):
    """What XLA wants to know of a GPU."""

    name: str
    major: int
    minor: int
    cores: int
    lanes: int
    gigahertz: float
    shared_per_core: int
    shared_per_block: int
    cache: int


class Chip(NamedTuple):
    """One kind of device: how its compiler calls it, and the numbers of its data sheet."""

    name: str
    platform: str
    topology: str
    flops: float
    """Products in bfloat16 a second, at the peak."""
    bandwidth: float
    """Bytes a second of its main memory."""
    memory: float
    """Bytes of it."""
    gpu: Gpu | None = None


_H100 = Gpu("NVIDIA H100 80GB HBM3", 9, 0, 132, 128, 1.98, 233472, 232448, 50 * 2**20)
_A100 = Gpu("NVIDIA A100-SXM4-80GB", 8, 0, 108, 64, 1.41, 167936, 166912, 40 * 2**20)
_B200 = Gpu("NVIDIA B200", 10, 0, 148, 128, 1.965, 233472, 232448, 126 * 2**20)

CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", "tpu", "v5e:2x2", 197e12, 819e9, 16e9),
        Chip("v5p", "tpu", "v5p:2x2x1", 459e12, 2765e9, 95e9),
        Chip("v6e", "tpu", "v6e:2x2", 918e12, 1640e9, 32e9),
        # A 7x is two devices to JAX, each with half of the chip.
        Chip("7x", "tpu", "tpu7x:2x2x1", 1153e12, 3690e9, 96e9),
        Chip("h100", "cuda", "1x1x1", 989e12, 3352e9, 80e9, _H100),
        Chip("a100", "cuda", "1x1x1", 312e12, 2039e9, 80e9, _A100),
        Chip("b200", "cuda", "1x1x1", 2250e12, 8000e9, 180e9, _B200),
    )
}
"""By the name that ``lossjax bench --compile-for`` takes."""


def chip_named(name: str) -> Chip:
    """The chip of this name. Raise NotPossible for another name."""
    if name not in CHIPS:
        raise NotPossible(f"{name!r} is not one of the chips {', '.join(CHIPS)}")
    return CHIPS[name]


def lacking(chip: Chip) -> str | None:
    """What has to be installed to compile for the chip, in one sentence; None if nothing is missing."""
    if chip.platform == "tpu":
        if importlib.util.find_spec("libtpu") is None:
            return f"compiling for a TPU {chip.name} needs libtpu: pip install libtpu"
    elif all(importlib.util.find_spec(f"jax_cuda{version}_plugin") is None for version in (13, 12)):
        return f"compiling for the GPU {chip.name} needs JAX's CUDA plugin: pip install 'jax[cuda12]'"
    return None


def devices(chip: Chip, topology: str | None = None) -> list[Any]:
    """The devices of a slice of this chip, which need not exist.

    Args:
      chip: which kind.
      topology: another slice than the smallest one, as ``v5p:8x8x16``.
    """
    missing = lacking(chip)
    if missing is not None:
        raise NotPossible(missing)
    # libtpu would ask the cloud which TPU this machine has, and take one that another process has for an error.
    quiet = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    for variable, value in quiet.items():
        os.environ.setdefault(variable, value)
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5e-4")
    jax.config.update("jax_platforms", "cpu")  # the machine's own chip, if it has one, is not asked for
    described = {} if chip.gpu is None else {"topology": chip.topology, "target_config": _described(chip, chip.gpu)}
    name = chip.name if chip.gpu is not None else topology or chip.topology
    try:
        return list(topologies.get_topology_desc(platform=chip.platform, topology_name=name, **described).devices)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise NotPossible(
            f"the compiler that is installed cannot compile for {chip.name}: {reason}; if this process has computed "
            "with JAX before, start it with JAX_PLATFORMS=cpu"
        ) from error


def _described(chip: Chip, gpu: Gpu) -> str:
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024  threads_per_warp: 32  shared_memory_per_block: 49152
  shared_memory_per_core: {gpu.shared_per_core}  threads_per_core_limit: 2048  core_count: {gpu.cores}
  fpus_per_core: {gpu.lanes}  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: {chip.bandwidth:.0f}  l2_cache_size: {gpu.cache}  clock_rate_ghz: {gpu.gigahertz}
  device_memory_size: {chip.memory:.0f}  shared_memory_per_block_optin: {gpu.shared_per_block}
  cuda_compute_capability {{ major: {gpu.major} minor: {gpu.minor} }}
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
device_description_str: "{gpu.name}"
"""
