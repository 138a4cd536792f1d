import pytest
import yaml
from pydantic import ValidationError

from tasks.monitor.config import MonitorConfig


def test_the_yaml_of_a_config_is_accepted():
    config = MonitorConfig.model_validate(
        yaml.safe_load("{false_alarm_budget: 0.1, looks: 90, schedule: '0 * * * *', cooldown_minutes: 5}")
    )
    assert (config.looks, config.cooldown_minutes) == (90, 5.0)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"lokks": 3}, "lokks"),
        ({"false_alarm_budget": 1.5}, "less than 1"),
        ({"window": 100, "min_window": 200}, "nothing would be judged"),
        ({"permutations": 999}, "set at least"),
    ],
)
def test_what_cannot_work_is_refused(tree, words):
    with pytest.raises(ValidationError, match=words):
        MonitorConfig.model_validate(tree)


def test_fewer_permutations_are_accepted_where_the_budget_allows_them():
    assert MonitorConfig(permutations=999, looks=2, false_alarm_budget=0.2).permutations == 999
