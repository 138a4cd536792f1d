"""GPU gauges with a driver of straw, since few test machines have one."""

import sys
from types import SimpleNamespace

import pytest

from bento.gpu_metrics import GpuCollector
from bento.metrics import Metrics


class NVMLError(Exception):
    """The driver's own."""


def straw_driver(num_gpus: int, *, lost: bool = False) -> SimpleNamespace:
    """pynvml as far as it is used: every GPU has 8 of 80 GB in use and is busy a quarter of the time."""

    def handle(at: int) -> int:
        if lost:
            raise NVMLError("GPU is lost")
        return at

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: num_gpus,
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetMemoryInfo=lambda device: SimpleNamespace(used=8e9, total=80e9),
        nvmlDeviceGetUtilizationRates=lambda device: SimpleNamespace(gpu=25),
    )


def test_the_driver_of_straw_has_only_what_the_real_one_has() -> None:
    real = pytest.importorskip("pynvml", reason="expected nvidia-ml-py, which BentoML brings")
    assert set(vars(straw_driver(1))) <= set(vars(real))


def test_memory_and_utilisation_of_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", straw_driver(2))
    value = Metrics().registry.get_sample_value
    assert value("retort_gpu_memory_used_bytes", {"gpu": "0"}) == 8e9
    assert value("retort_gpu_memory_total_bytes", {"gpu": "1"}) == 80e9
    assert value("retort_gpu_utilisation_ratio", {"gpu": "1"}) == 0.25


@pytest.mark.parametrize("module", [None, straw_driver(0)])
def test_without_a_package_or_a_gpu_nothing_is_exposed(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert not GpuCollector.available()
    assert b"gpu" not in Metrics().exposition()


def test_a_gpu_that_is_lost_later_does_not_fail_the_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", straw_driver(1))
    metrics = Metrics()
    monkeypatch.setitem(sys.modules, "pynvml", straw_driver(1, lost=True))
    text = metrics.exposition().decode()
    assert 'gpu="' not in text
    assert "retort_ready" in text
