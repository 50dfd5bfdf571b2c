"""How fast training is, and what of the devices it uses."""

import re
import resource
from typing import Any, NamedTuple

import torch

from llmhpc.models import Model
from llmhpc.processes import Place
from llmhpc.train.settings import Precision, Schedule

KIB = 1024
# TFLOP/s of dense matrix products in bfloat16 and in float32 (without TF32, as torch multiplies), from NVIDIA's data
# sheets of each; these give bfloat16 with sparsity, which is twice as much. The first that a device's name has.
PEAKS = {
    "GH200": (989.5, 67.0),
    "H200": (989.5, 67.0),
    "H100 NVL": (835.5, 60.0),
    "H100 PCIe": (756.5, 51.0),
    "H100": (989.5, 67.0),
    "A100": (312.0, 19.5),
    "L40S": (362.0, 91.6),
    "A40": (149.7, 37.4),
    "A10": (125.0, 31.2),
}


def peak_flops(device: str, precision: Precision) -> float | None:
    """FLOP/s of one device by its name, as torch.cuda.get_device_name gives it; None where it is not in PEAKS."""
    for name, (half, single) in PEAKS.items():
        if re.search(rf"\b{name}\b", device):
            return 1e12 * (half if precision is Precision.bfloat16 else single)
    return None


def memory_peak(device: torch.device) -> float:
    """Bytes at the fullest moment until now: of tensors on a GPU; on a CPU, of the process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB)


class Speed(NamedTuple):
    """What a token costs and what the devices could do, all of them together."""

    flops_per_token: float
    peak: float | None  # FLOP/s; None of a CPU, or of a device that is not in PEAKS
    gpus: int

    def values(self, *, tokens: int, seconds: float, per_second: float) -> dict[str, Any]:
        """FLOPs of the model (``Model.flops_per_token``) for all ``tokens``, GPU-hours of all ``seconds``, and MFU.

        MFU is tokens per second times FLOPs per token, over the peak of all devices (Chowdhery et al. 2022,
        arXiv:2204.02311, appendix B). What is computed again (parallel.recompute) does not count.
        """
        found: dict[str, Any] = {"flops": self.flops_per_token * tokens}
        if self.gpus:
            found["gpu_hours"] = round(self.gpus * seconds / 3600, 4)
        if self.peak is not None:
            found["mfu"] = round(per_second * self.flops_per_token / self.peak, 4)
        return found


def speed_of(model: Model, schedule: Schedule, place: Place) -> Speed:
    """Of a training on as many devices as there are processes."""
    peak, gpus = None, 0
    if place.device.type == "cuda":
        gpus = place.size
        one = peak_flops(torch.cuda.get_device_name(place.device), schedule.precision)
        peak = one and gpus * one
    return Speed(model.flops_per_token(schedule.sequence_length), peak, gpus)
