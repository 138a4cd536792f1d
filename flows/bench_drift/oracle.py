"""The retrains that somebody would have made who knew the whole stream: the least that it can cost."""

import numpy as np

from flows.bench_drift.prices import Prices
from flows.bench_drift.replay import Run


def best_retrains(run: Run, prices: Prices) -> list[int]:
    """The looks whose retrains make errors, labels up to the last of them, and retrains cheapest together.

    Dynamic programming backwards: `rest[m]` is the cost from look m on of the model made there.
    """
    step, num_looks = run.setup.step, run.num_looks
    labels = [len(run.labelled(0, look)) for look in range(num_looks + 1)]
    rest, following = np.zeros(num_looks + 1), [0] * (num_looks + 1)
    for made in range(num_looks - 1, -1, -1):
        wrong_L = ~run.model(made).correct_L[made * step : num_looks * step]
        until = np.concatenate([[0], np.cumsum(wrong_L.reshape(-1, step).sum(axis=1))])  # errors up to each later look
        choices = {num_looks: float(until[-1])}
        for look in range(made + 1, num_looks):
            bought = prices.label * (labels[look] - labels[made])
            choices[look] = float(until[look - made]) + prices.retrain + bought + float(rest[look])
        following[made] = min(choices, key=lambda look: choices[look])
        rest[made] = choices[following[made]]
    chosen, at = [], following[0]
    while at < num_looks:
        chosen.append(at)
        at = following[at]
    return chosen
