"""What is counted, and that nothing a client sends can make the number of series grow."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bento.app import ROUTES, Server, create_app
from bento.metrics import ARMS, OUTCOMES, Metrics, outcome
from tests.bento.conftest import LABELS
from tests.serving import Client, serving

ODD_PATHS = ("/predict/", "/../etc/passwd", "/v2/models/a/infer/b", "/static/../x", "/%00", "/metrics?x=", "//", "/ü")


def label_sets(text: str) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every series of an exposition: its name and sorted labels."""
    families = text_string_to_metric_families(text)
    return {(sample.name, tuple(sorted(sample.labels.items()))) for family in families for sample in family.samples}


def send_odd_requests(client: Client, tag: str) -> None:
    """Errors of every kind, each with names of the client's own in it."""
    for path in ODD_PATHS:
        client.get(f"{path}{tag}")
    client.get(f"/static/{tag}.js")
    client.get(f"/v2/models/{tag}")
    client.post(f"/v2/models/{tag}/infer", json={"inputs": [{"name": tag, "shape": [1], "datatype": tag, "data": [1]}]})
    client.post("/predict", json={tag: tag})
    client.post("/predict", content=tag.encode())
    client.post("/predict", json={"text": "card", "request_id": tag, "key": tag})
    client.post("/predict", json={"text": "another", "request_id": tag})
    client.post("/feedback", json={"request_id": tag, "label": tag, "new_label": True})
    client.get(f"/audit?limit={tag}")


def test_the_series_stay_the_same_whatever_paths_names_and_labels_clients_send(client: Client) -> None:
    send_odd_requests(client, "first")
    client.get("/metrics")
    before = label_sets(client.get("/metrics").text)
    for number in range(20):
        send_odd_requests(client, f"tag{number}")
    assert label_sets(client.get("/metrics").text) == before


def test_an_unbounded_label_would_be_noticed(client: Client, server: Server) -> None:
    before = label_sets(client.get("/metrics").text)
    server.metrics.requests.labels(route="/a/path/of/the/client", status="404").inc()
    assert label_sets(client.get("/metrics").text) - before >= {
        ("retort_requests_total", (("route", "/a/path/of/the/client"), ("status", "404")))
    }


def test_routes_and_outcomes_are_those_of_the_service(client: Client) -> None:
    send_odd_requests(client, "odd")
    labels = [dict(labels) for _, labels in label_sets(client.get("/metrics").text)]
    assert {each["route"] for each in labels if "route" in each} <= {path for _, path, _ in ROUTES} | {"other"}
    assert {each["outcome"] for each in labels if "outcome" in each} == set(OUTCOMES)
    assert {each["label"] for each in labels if "label" in each} <= set(LABELS)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, "ok"), (404, "refused"), (422, "refused"), (429, "overload"), (499, "refused"), (503, "failed")],
)
def test_the_outcome_of_a_status(status: int, expected: str) -> None:
    assert outcome(status) == expected


def test_errors_are_counted_by_their_code(client: Client, server: Server) -> None:
    client.post("/predict", json={"text": " "})
    client.get("/nope")
    value = server.metrics.registry.get_sample_value
    assert value("retort_errors_total", {"code": "empty_text"}) == 1
    assert value("retort_errors_total", {"code": "not_found"}) == 1


def test_confidence_and_arm_are_counted_for_each_answer(client: Client, server: Server) -> None:
    answers = client.post("/predict", json={"texts": ["card", "refund", "help"]}).json()["predictions"]
    value = server.metrics.registry.get_sample_value
    assert value("retort_confidence_count") == 3
    assert value("retort_confidence_sum") == pytest.approx(sum(answer["probability"] for answer in answers))
    assert value("retort_arm_requests_total", {"arm": "champion"}) == 1


def test_what_rates_are_taken_of_is_zero_before_the_first_event() -> None:
    series = label_sets(Metrics().exposition().decode())
    assert ("retort_request_seconds_count", (("outcome", "ok"), ("route", "/predict"))) in series
    assert {("retort_arm_requests_total", (("arm", arm),)) for arm in ARMS} <= series
    assert ("retort_cache_total", (("found", "hit"), ("tier", "memory"))) in series
    assert ("retort_log_dropped_rows_total", (("reason", "queue_full"),)) in series


def test_the_process_shows_memory_processor_time_and_open_files() -> None:
    names = {name for name, _ in label_sets(Metrics().exposition().decode())}
    assert {
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    } <= names


def test_two_apps_in_one_process_count_apart(server: Server, make_server: object) -> None:
    other = make_server()  # type: ignore[operator]
    with serving(create_app(other)) as client:
        client.post("/predict", json={"text": "card"})
    assert server.metrics.registry.get_sample_value("retort_confidence_count") == 0
