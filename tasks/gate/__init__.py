"""The gate: what a candidate must prove before it can be promoted.

Each verdict is pass, fail or inconclusive:

- `pass`: shown, at the gate's error rate, to be within the limit;
- `fail`: what was observed is itself beyond the limit, or is missing;
- `inconclusive`: the observation is within the limit, but so few rows cannot show that it is no accident.
"""

from tasks.gate.behaviour import judge_behaviour
from tasks.gate.compare import judge
from tasks.gate.config import GateConfig, HoldoutGate, MarginGate, SliceGate
from tasks.gate.evidence import Evidence, judge_evidence, judge_holdout
from tasks.gate.fresh import judge_fresh, no_verdict, with_frozen_margin
from tasks.gate.limits import judge_limit, judge_limits, judge_measured
from tasks.gate.metrics import check_gates, judge_metrics, judge_parts, metric_rules
from tasks.gate.probes import Probes, num_unknown, probe
from tasks.gate.slices import judge_slice_values, slice_columns

__all__ = [
    "Evidence",
    "GateConfig",
    "HoldoutGate",
    "MarginGate",
    "Probes",
    "SliceGate",
    "check_gates",
    "judge",
    "judge_behaviour",
    "judge_evidence",
    "judge_fresh",
    "judge_holdout",
    "judge_limit",
    "judge_limits",
    "judge_measured",
    "judge_metrics",
    "judge_parts",
    "judge_slice_values",
    "metric_rules",
    "no_verdict",
    "num_unknown",
    "probe",
    "slice_columns",
    "with_frozen_margin",
]
