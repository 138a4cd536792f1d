"""Waiting times of queues in closed form.

Shares are probabilities, times are milliseconds or seconds as named; `utilisation` is of one server, below 1.
"""

import math


def erlang_c(num_servers: int, offered: float) -> float:
    """Probability that an arrival waits in an M/M/c queue, `offered` = arrival rate times mean service time.

    Through Erlang's loss formula by recursion, which cannot overflow (Cooper 1981, Introduction to Queueing Theory).
    """
    if offered >= num_servers:
        return 1.0
    loss = 1.0
    for servers in range(1, num_servers + 1):
        loss = offered * loss / (servers + offered * loss)
    return loss / (1 - offered / num_servers * (1 - loss))


def mean_wait_ms(
    utilisation: float, service_ms: float, scv: float, num_servers: int = 1, arrival_scv: float = 1
) -> float:
    """Mean time in the queue of a G/G/c queue (Allen and Cunneen 1990); exact for M/G/1 and M/M/c.

    `scv` and `arrival_scv` are squared coefficients of variation of service and inter-arrival times.
    """
    if utilisation >= 1:
        return math.inf
    waits = erlang_c(num_servers, utilisation * num_servers)
    return waits * service_ms / (num_servers * (1 - utilisation)) * (arrival_scv + scv) / 2


def share_waiting_longer(
    than_ms: float, utilisation: float, service_ms: float, scv: float, num_servers: int = 1, arrival_scv: float = 1
) -> float:
    """P(time in the queue > `than_ms`), the wait of those who wait taken as exponential; exact for M/M/c."""
    if utilisation >= 1:
        return 1.0
    if than_ms < 0:
        return 1.0
    if utilisation <= 0:
        return 0.0
    waits = erlang_c(num_servers, utilisation * num_servers)
    mean_ms = mean_wait_ms(utilisation, service_ms, scv, num_servers, arrival_scv)
    return waits * math.exp(-than_ms * waits / mean_ms)
