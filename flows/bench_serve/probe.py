"""The service with clocks in it: `bentoml serve flows.bench_serve.probe:Retort`; RETORT_PROBE names their folder."""

import os
from pathlib import Path

from flows.bench_serve.clocks import start_clocks

start_clocks(Path(os.environ["RETORT_PROBE"]))

from bento.service import Retort  # noqa: E402  # after the clocks

__all__ = ["Retort"]
