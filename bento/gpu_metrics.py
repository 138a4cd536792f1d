"""Memory and utilisation of the NVIDIA GPUs of this machine; on a machine without one nothing is exposed."""

import logging
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

FAMILIES = {
    "retort_gpu_memory_used_bytes": "GPU memory in use, by all processes",
    "retort_gpu_memory_total_bytes": "GPU memory",
    "retort_gpu_utilisation_ratio": "Share of the last sample period in which the GPU computed",
}


class GpuCollector(Collector):
    """Asks the driver when it is scraped."""

    @staticmethod
    def available() -> bool:
        """Whether NVIDIA's management library is there and finds a GPU."""
        try:
            import pynvml

            pynvml.nvmlInit()
            return bool(pynvml.nvmlDeviceGetCount())
        except Exception:  # noqa: BLE001 - no package, no driver or no GPU: there is nothing to show
            return False

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The families without samples."""
        yield from _families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample a GPU, and none when the driver does not answer, so that a scrape never fails."""
        import pynvml

        families = _families()
        try:
            for at in range(pynvml.nvmlDeviceGetCount()):
                for family, value in zip(families, _read(pynvml, at), strict=True):
                    family.add_metric([str(at)], value)
        except pynvml.NVMLError as error:
            logger.warning("the GPU cannot be read: %s", error)
        yield from families


def _families() -> list[GaugeMetricFamily]:
    return [GaugeMetricFamily(name, text, labels=["gpu"]) for name, text in FAMILIES.items()]


def _read(pynvml: Any, at: int) -> tuple[float, float, float]:
    """Bytes used, bytes in all, and the share of time in use."""
    device = pynvml.nvmlDeviceGetHandleByIndex(at)
    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    return memory.used, memory.total, pynvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
