"""Schedules are refused where Prefect would refuse them, and before."""

import pytest
from prefect.client.schemas.schedules import CronSchedule

from flows.schedules import check_schedule

CRON = ("0 * * * *", "*/15 * * * *", "0 9-17/2 * * 1-5", "@hourly", "0 0 1,15 jan-mar *", "* * * * * *")
NO_CRON = ("foo bar", "", "* * * *", "99 * * * *", "R * * * *", "H * * * *", "every hour")


@pytest.mark.parametrize("schedule", CRON)
def test_what_prefect_takes_is_taken(schedule: str) -> None:
    check_schedule("monitor.schedule", schedule)
    assert CronSchedule(cron=schedule).cron == schedule


@pytest.mark.parametrize("schedule", NO_CRON)
def test_what_prefect_refuses_is_refused_with_its_key(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"monitor\.schedule: expected a cron schedule .*, got"):
        check_schedule("monitor.schedule", schedule)
    with pytest.raises(ValueError, match="cron"):
        CronSchedule(cron=schedule)
