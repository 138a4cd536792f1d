"""A build summary and a monitoring look with everything in them."""

from typing import Any

import numpy as np

HOSTILE = '<script>alert("x")</script>'


def score(accuracy: float, size_bytes: int, latency_ms: float) -> dict[str, Any]:
    """One row of `scores`."""
    return {
        "accuracy": accuracy,
        "macro_f1": accuracy - 0.01,
        "accuracy_interval": [accuracy - 0.011, accuracy + 0.01],
        "macro_f1_interval": [accuracy - 0.022, accuracy + 0.001],
        "num_rows": 3076,
        "size_bytes": size_bytes,
        "latency_ms_p50": latency_ms,
        "latency_ms_p95": latency_ms * 1.5,
        "throughput_per_s": 800 / latency_ms,
    }


def score_summary() -> dict[str, Any]:
    """A promoted build of a model that gives pairs of texts a score."""
    summary = build_summary()
    kept = ("per_class", "analysis", "behaviour", "behaviour_failures", "calibration", "abstention")
    for key in (*kept, "confusion", "reliability", "search"):
        summary.pop(key, None)

    def correlations(row: dict[str, Any]) -> dict[str, Any]:
        for old, new in (("accuracy", "spearman"), ("macro_f1", "pearson")):
            row[new], row[f"{new}_interval"] = row.pop(old), row.pop(f"{old}_interval")
        return row

    rows = [dict(row) for row in summary["scores"].values()]
    verdicts = [verdict for verdict in summary["verdicts"] if verdict["gate"] == "accuracy_vs_teacher"]
    return summary | {
        "task": "score",
        "pairs": True,
        "floor": "the cosine of both texts' TF-IDF vectors",
        "scores": dict(zip(summary["scores"], map(correlations, rows), strict=True)),
        "steps": [correlations(dict(step)) for step in summary["steps"]],
        "verdicts": [verdict | {"gate": "spearman_vs_teacher"} for verdict in verdicts],
        "analysis": {
            "answers": [{"text": HOSTILE, "truth": "4.80", "teacher": "4.10", "candidate": "0.70", "off": 4.1}],
            "num": {"answers": 3076},
        },
    }


def build_summary() -> dict[str, Any]:
    """A promoted build, every optional key set."""
    rng = np.random.default_rng(0)
    scores = {
        "teacher": score(0.928, 90_900_000, 6.2),
        "candidate": score(0.924, 7_300_000, 0.31),
        "floor": score(0.857, 1_900_000, 0.2),
    }
    return {
        "outcome": "promoted",
        "name": "bank",
        "task": "single_label",
        "version": "3",
        "champion": "3",
        "bento": "bank:abc",
        "model_path": "/state/store/aa",
        "model_sha256": "a" * 64,
        "data_sha256": "d" * 64,
        "mlflow_run_id": "7" * 32,
        "created_at": "2026-11-24T01:00:00+00:00",
        "scores": scores,
        "floor": "TF-IDF with logistic regression",
        "steps": [
            {"name": "teacher"} | score(0.928, 69_900_000, 2.6),
            {"name": "export", "stages": ["distil", "export"]} | score(0.925, 28_000_000, 0.9),
            {"name": "quantize"} | scores["candidate"],
        ],
        "stages": [
            {"name": "teacher", "cached": True, "seconds": 0.1},
            {"name": "distil", "cached": False, "seconds": 100.0},
            {"name": "export", "cached": False, "seconds": 33.0},
            {"name": "quantize", "cached": False, "seconds": 2.5},
        ],
        "verdicts": [
            verdict("accuracy_vs_teacher", "pass", -0.004, -0.01, interval=(-0.009, 0.001), n=3076, needed_n=2474),
            verdict("size_mb", "pass", 7.3, 10),
        ],
        "per_class": [
            {"label": f"class {at}", "f1_teacher": 0.9, "f1_candidate": 0.5 + at / 60, "support": 40}
            for at in range(30)
        ],
        "confusion": {"labels": [f"class {at}" for at in range(40)], "counts": np.eye(40, dtype=int).tolist()},
        "reliability": {
            name: {"confidence": [0.5, 0.9], "accuracy": [0.4, 0.95], "num_rows": [100.0, 2976.0]}
            for name in ("teacher", "candidate")
        },
        "analysis": analysis(),
        "behaviour": [
            {
                "test": "typos",
                "kind": "invariance",
                "num_cases": 200,
                "teacher_failures": 10,
                "candidate_failures": 14,
                "only_candidate": 6,
            },
            {
                "test": "names",
                "kind": "invariance",
                "num_cases": 0,
                "teacher_failures": 0,
                "candidate_failures": 0,
                "only_candidate": 0,
            },
        ],
        "behaviour_failures": [
            {
                "test": "typos",
                "kind": "invariance",
                "text": f"my card {HOSTILE}",
                "altered": "my crad",
                "expected": "the same answer",
                "teacher_before": "lost",
                "teacher_after": "lost",
                "teacher_failed": False,
                "candidate_before": "lost",
                "candidate_after": "stolen",
                "candidate_failed": True,
            }
        ],
        "latency_ms": {
            "teacher": rng.lognormal(1.8, 0.2, 9000).tolist(),
            "candidate": rng.lognormal(-1, 0.3, 50).tolist(),
        },
        "data": {
            "source": "somewhere/bank",
            "num_labels": 30,
            "splits": {"train": {"num_rows": 9001, "num_read": 9993}, "test": 3076},
            "findings": [
                {"kind": "leak", "action": "dropped", "count": 4, "message": "4 rows leak", "examples": [HOSTILE]}
            ],
        },
        "lineage": [
            {"step": "data", "sha256": "d" * 64, "parents": ["e" * 64]},
            {"step": "quantize", "sha256": "a" * 64, "parents": ["d" * 64]},
        ],
        "environment": {"python": "3.11.7"},
        "card": {
            "license": "apache-2.0",
            "language": ["en"],
            "intended_use": "Sorts messages to a bank.",
            "dataset": "somewhere/bank",
            "base_model": "big/model",
        },
        "config_yaml": "name: bank\n",
        "command": "retort run configs/bank.yaml",
    }


def analysis() -> dict[str, Any]:
    """An error analysis with a row in every table."""
    answers = {"teacher": "lost", "teacher_probability": 0.9, "candidate": "stolen", "candidate_probability": 0.7}
    accuracies = {
        f"{model}_{what}": value
        for model in ("candidate", "teacher")
        for what, value in (("accuracy", 0.9), ("low", 0.85), ("high", 0.95))
    }
    share = {"value": 0.95, "low": 0.94, "high": 0.96, "n": 3076}
    tables = {
        "flips": [{"flip": "lost", "id": "1", "text": HOSTILE, "label": "lost"} | answers],
        "confusions": [
            {
                "true": "lost",
                "predicted": "stolen",
                "count": 9,
                "teacher_count": 7,
                "cost": 5.0,
                "total_cost": 45.0,
                "example": f"it is gone {HOSTILE}",
            }
        ],
        "errors": [
            {"text": f"gone {HOSTILE}", "label": "lost", "nearest_1": f"near {HOSTILE}", "nearest_label_1": "stolen"}
            | answers
        ],
        "slices": [
            {
                "slice": f"word {HOSTILE}",
                "rows": 40,
                "error_rate": 0.4,
                "error_rate_elsewhere": 0.07,
                "score": 3.0,
                "p_value": 1e-6,
                "p_holm": 1e-5,
                "confirmed": True,
            }
        ],
        "label_errors": [{"text": HOSTILE, "label": "lost", "suggested": "stolen", "probability_suggested": 0.97}],
        "inputs": [
            {"group": "cut at the length limit", "rows": 0} | dict.fromkeys(accuracies),
            {"group": "none of these", "rows": 3076} | accuracies,
        ],
        "over_time": [{"from": "2026-01-01", "to": "2026-02-01", "rows": 300} | accuracies],
        "coverage": [
            {"threshold": 0.9, "coverage": 0.5, "risk": 0.01, "answered": 1538, "wrong": 15},
            {"threshold": 0.1, "coverage": 1.0, "risk": 0.08, "answered": 3076, "wrong": 246},
        ],
    }
    return {
        "num_rows": 3076,
        "num_lost": 61,
        "num_gained": 49,
        "mean_cost": {"teacher": 0.1, "candidate": 0.125},
        "weighed": True,
        "num_label_rows": 4000,
        "trend_p": 0.03,
        "calibration": {
            "temperature": 0.8, "calibration_error": 0.011, "calibration_error_before": 0.052, "brier_loss": 0.12,
            "brier_loss_before": 0.13,
        },
        "abstention": {
            "threshold": 0.62, "labels": ["oos"], "coverage": share, "risk": share, "risk_without": share,
            "coverage_in_scope": share, "abstained_out_of_scope": None,
        },
        "area_under_risk": 0.02,
        "num": dict.fromkeys(tables, 1234),
        "tables": tables,
    }  # fmt: skip


def verdict(gate: str, outcome: str, observed: float, limit: float, **more: Any) -> dict[str, Any]:
    """One row of `verdicts`."""
    row = {"gate": gate, "outcome": outcome, "observed": observed, "limit": limit, "n": 200, "needed_n": None}
    return row | {"interval": None, "reason": ""} | more


def monitor_evidence() -> dict[str, Any]:
    """A look that found harm."""
    return {
        "name": "bank",
        "state": "harm",
        "action": "retrain",
        "reason": "audited accuracy is below its baseline",
        "at": 1_795_000_000.0,
        "num_rows": 1000,
        "num_reference": 2000,
        "tests": [
            {"name": "embedding MMD", "p_value": 0.0001, "alpha": 0.0012, "statistic": 0.0123},
            {"name": "prediction mix", "p_value": 0.21, "alpha": 0.0012, "statistic": 18.0},
        ],
        "false_alarm_budget": 0.1,
        "looks": 90,
        "label_mix": {"refund": [0.10, 0.23], HOSTILE: [0.2, 0.12]},
        "baseline_accuracy": 0.92,
        "audited_accuracy": {"value": 0.81, "low": 0.77, "high": 0.85, "n": 412},
        "prior_looks": [{"at": 1_794_990_000.0, "state": "suspect", "action": "audit", "reason": "the input changed"}],
        "window_sha256": "ab" * 32,
    }
