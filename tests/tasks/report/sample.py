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
        "analysis": answers_analysis("score"),
    }


def answers_analysis(task: str) -> dict[str, Any]:
    """An error analysis of label sets, scores or entities, with a row in every table."""
    measure = "within_bound" if task == "score" else "exact_match"
    near = {"nearest_1": f"near {HOSTILE}", "nearest_truth_1": "4.00", "cosine_1": 0.5}
    classes = analysis()
    tables = {name: classes["tables"][name] for name in ("slices", "inputs", "over_time")}
    for name in ("inputs", "over_time"):
        tables[name] = [{key.replace("accuracy", measure): value for key, value in row.items()} for row in tables[name]]
    tables["answers"] = [
        {"text": HOSTILE, "truth": "4.80", "teacher": "4.10", "candidate": "0.70", "off": 4.1} | near,
        {"text": "not a thing", "truth": "", "teacher": "", "candidate": "1.00", "off": 1.0} | near,
    ]
    found = {"num_rows": 3076, "measure": measure, "trend_p": 0.03, "tables": tables}
    if task == "score":
        found["bound"] = 0.9312
    else:
        found |= {"num_lost": 61, "num_gained": 49}
        kinds = ("missed", "invented", *(("wrong_boundary", "wrong_type") if task == "entities" else ()))
        counts = {
            f"{model}_{kind}": number
            for number, kind in enumerate(kinds, start=1_100)
            for model in ("candidate", "teacher")
        }
        tables["mistakes"] = [{"label": name, "true": 500} | counts | {"lost": 9} for name in (HOSTILE, "joy")]
        found["mistakes"] = (
            {"label": "together", "true": 1_000} | counts | {"lost": 18, "worse": [f"{HOSTILE} (missed)"]}
        )
    return found | {"num": dict.fromkeys(tables, 3076)}


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
            name: {"confidence": [0.5, 0.9], "accuracy": [0.4, 0.95], "num_answers": [100.0, 2976.0]}
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
        "measure": "accuracy",
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


def look_evidence(
    state: str = "harm", *, p: float = 0.0001, accuracy: float = 0.81, labels: int = 412
) -> dict[str, Any]:
    """What a look stores."""
    enough = labels >= 50
    return {
        "state": state,
        "champion_sha256": "ab" * 32,
        "drift": {
            "num_rows": 1000, "num_reference": 2000, "enough": True, "alpha": 0.0012, "alpha_source": "per look",
            "num_permutations": 9_999, "num_unreadable": 0, "num_damaged": 0,
            "tests": {
                "embedding": {"statistic": 0.0123, "p_value": p / 4, "p_holm": p},
                "predicted_labels": {"statistic": 18.0, "p_value": 0.07, "p_holm": 0.21},
            },
            "distances": {"length": 0.31, "url": 0.02},
            "prior_reference": {"refund": 0.10, HOSTILE: 0.2, "transfer": 0.7},
            "prior_window": {"refund": 0.23, HOSTILE: 0.12, "transfer": 0.65},
            "prior_low": {"refund": 0.19, HOSTILE: 0.08, "transfer": 0.55},
            "prior_high": {"refund": 0.27, HOSTILE: 0.16, "transfer": 0.75},
            "prior_agrees": True, "prior_refusal": "",
        },
        "harm": {
            "num_labels": labels, "num_errors": round(labels * (1 - accuracy)), "enough": enough,
            "accuracy": {"value": accuracy, "low": accuracy - 0.04, "high": accuracy + 0.04},
            "estimate": {"value": accuracy + 0.01, "low": accuracy - 0.02, "high": accuracy + 0.03},
            "baseline_accuracy": 0.92, "baseline_rows": 2_500, "tolerance": 0.05, "limit": 0.14, "p_value": 0.0002,
            "alpha": 0.0003, "harmful": state == "harm", "new_labels": ["chargeback"], "num_waiting": 7,
            "alarms": ["e_cusum"] if state == "harm" else [], "e_value": 51_234.0 if state == "harm" else 2.0,
            "e_level": 20_000.0 if enough else None, "e_path": [[1, 0.5], [200, 8.0], [412, 51_234.0]],
            "num_volunteered": 31, "num_after_drift": 140, "errors_after_drift": 40, "rise": 4.2,
            "rise_level": 2.5 if enough else None,
            "triage": [{"method": "atc", "now": 0.9, "on_audited": 0.91, "error": 0.1, "num_audited": labels}],
        },
        "balance": {"error_now": 0.15, "error_after": 0.08, "saved": 2_100.0, "cost": 150.0},
        "performance": performance_evidence(),
    }  # fmt: skip


def performance_evidence() -> dict[str, Any]:
    """A service that broke its promise on latency."""
    latency = {
        "target": 0.99, "window_days": 30.0, "num_requests": 9_000.0, "num_bad": 180.0, "spent": 2.0, "burn_rate": 1.4,
        "empty_in_days": 0.0, "state": "spent", "words": "broken",
    }  # fmt: skip
    good = {"target": 0.999, "num_bad": 0.0, "spent": 0.0, "burn_rate": 0.0, "empty_in_days": None, "state": "ok"}
    return {
        "state": "spent", "reason": "latency: 2.0 times the budget is spent", "sources": ["http://127.0.0.1:3000/metrics"],
        "unread": [], "num_replicas": 2, "seconds": 3_600.0, "num_requests": 4_200, "per_s": 1.17,
        "latency_ms": {"p50": 3.1, "p95": 22.0, "p99": 64.0}, "statuses": {"200": 4_190, "429": 10},
        "cpu_cores": 0.31, "core_ms_per_request": 2.4, "memory_bytes": 312e6, "queue_ms_p99": 9.5, "queue_texts": 0.0,
        "cache_hit_share": 0.12, "texts_per_run": 1.7, "padding_share": 0.1, "gpu": None,
        "budgets": {"latency": latency, "availability": latency | good},
    }  # fmt: skip


def look_changes() -> dict[str, Any]:
    """Words, properties and texts that differ."""
    example = {
        "text": HOSTILE,
        "label": "refund",
        "probability": 0.61,
        "nearest": "my <b>card</b>",
        "nearest_label": "transfer",
    }
    words = [("chargeback", 0.12, 0.001, 9.1), ("transfer", 0.2, 0.4, -6.0)]
    return {
        "words": [{"word": w, "window": now, "reference": then, "z": z, "q": 0.001} for w, now, then, z in words],
        "properties": [
            {"name": "length", "window": 4.2, "reference": 3.7},
            {"name": "url", "window": 0.02, "reference": 0.01},
        ],
        "unlike": [example],
        "alike": [example | {"text": ("one side", "the other")}],
    }


def past_looks(num: int = 12) -> list[dict[str, Any]]:
    """Looks of which the last found harm, oldest first."""
    states = ["no_drift"] * (num - 4) + ["mix_only", "suspect", "suspect", "harm"]
    actions = {"no_drift": "none", "mix_only": "correct_prior", "suspect": "audit", "harm": "retrain"}
    rng = np.random.default_rng(0)
    return [
        {
            "at": 1_795_000_000.0 + 3_600 * at, "state": state, "action": actions[state], "reason": "what was found",
            "number": at + 1, "spent": 0.0012 * (at + 1), "budget": 0.1,
            "evidence": look_evidence(
                state, p=0.0001 if state in ("suspect", "harm") else float(rng.uniform(0.05, 1)),
                accuracy=0.81 if state == "harm" else 0.9, labels=20 + 30 * at,
            ),
        }
        for at, state in enumerate(states)
    ]  # fmt: skip


def monitor_page() -> dict[str, Any]:
    """The page of a look that found harm, with everything in it."""
    looks = past_looks()
    marks = (("promote", "v2", looks[4]), ("correct_prior", "", looks[8]), ("retrain", "", looks[11]))
    return {
        "name": "bank", "champion": "2", "state": "harm", "action": "retrain",
        "created_at": "2026-11-18T12:26:40+00:00",
        "reason": "audited accuracy is below its baseline", "evidence": look_evidence(), "changes": look_changes(),
        "budget": {"false_alarm_budget": 0.1, "looks": 90, "num_looks": 7, "spent": 0.0082}, "min_labels": 50,
        "looks": looks, "marks": [{"at": look["at"] + 60, "kind": kind, "text": text} for kind, text, look in marks],
        "experiment": running_experiment(),
    }  # fmt: skip


def running_experiment() -> dict[str, Any]:
    """An experiment in its shadow phase."""
    process = {"now": 1.0, "largest": 1.2, "crossed_at": None, "curve": [0.0, 1.0]}
    return {
        "state": "shadow", "phase": "shadow", "challenger": "3", "champion": "2", "reason": "too few labels yet",
        "config": {"max_labels": 500, "watch_labels": 200},
        "evidence": {"num_pairs": 1_400, "num_disagreements": 60, "num_labels": 40, "needed_labels": 99,
                     "better": process, "worse": process},
    }  # fmt: skip
