"""A replica with round figures."""

from tasks.capacity.replica import Replica


def replica(**changes) -> Replica:
    """100 requests a second and core, 10 ms each at random lengths, alone as when busy, unless changed."""
    given = {
        "cores": 1, "threads": 1, "workers": 1, "full_core_ms": 10.0, "light_core_ms": 10.0, "python_ms": 4.0,
        "run_ms": 6.0, "scv": 1.0, "base_ms": (10.0,),
    }  # fmt: skip
    return Replica(**(given | changes))
