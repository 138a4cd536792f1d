"""Cron schedules of a config, checked as Prefect will when it gets them."""

from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import distribution
from types import ModuleType
from typing import Any

RANDOM = ("r", "h")
"""Fields that the parser knows and Prefect does not: any time, and one by the schedule's name."""


def check_schedule(key: str, schedule: str) -> None:
    """Raises: ValueError naming the key of the config."""
    if not _croniter().is_valid(schedule) or any(field in RANDOM for field in schedule.lower().split()):
        raise ValueError(
            f"{key}: expected a cron schedule (minute, hour, day, month, weekday), got {schedule!r}; write one such as "
            "'*/15 * * * *'"
        )


@cache
def _croniter() -> Any:
    """Prefect's parser without Prefect, whose import takes seconds, and makes a folder even for `retort plan`."""
    file = distribution("prefect").locate_file("prefect/_vendor/croniter/croniter.py")
    module = ModuleType("retort_croniter")
    SourceFileLoader(module.__name__, str(file)).exec_module(module)
    return module.croniter
