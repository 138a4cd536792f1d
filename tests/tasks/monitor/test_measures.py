from tasks.monitor.measures import measures
from tests.tasks.report.sample import look_evidence


def test_figures_have_one_name_each_with_their_unit():
    found = measures(look_evidence(), spent=0.01, num_looks=7)
    expected = {
        "look/state_level": 3, "look/number": 7, "look/false_alarm_share_spent": 0.01, "drift_p/embedding": 0.0001,
        "drift_p/level": 0.0012, "accuracy/audited": 0.81, "accuracy/audited_low": 0.77, "accuracy/at_the_gate": 0.92,
        "accuracy/estimated": 0.82, "harm_e_value/now": 51_234, "accuracy_guess/atc": 0.9, "latency_ms/p95": 22,
        "harm_rise/after_drift": 4.2, "harm_rise/level": 2.5,
        "service/memory_mb": 312, "error_budget_share_spent/latency": 2, "rows/window": 1_000,
    }  # fmt: skip
    assert {name: round(found[name], 6) for name in expected} == expected


def test_what_was_not_measured_has_no_figure():
    evidence = look_evidence()
    evidence["harm"] |= {"accuracy": None, "estimate": None, "e_level": None, "rise_level": None}
    evidence["performance"] |= {"per_s": None, "memory_bytes": None}
    found = measures(evidence, spent=0.0, num_looks=1)
    assert not {
        "accuracy/audited",
        "harm_e_value/level",
        "harm_rise/after_drift",
        "service/per_s",
        "service/memory_mb",
    } & set(found)
