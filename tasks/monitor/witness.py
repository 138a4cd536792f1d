"""Which texts of a window are unlike the reference, and which are like it: for people to label, and to look at."""

import numpy as np
from numpy.typing import NDArray

from tasks.monitor.reference import Reference
from tasks.monitor.window import Window
from tasks.stats.two_sample import rbf_kernel


def witness(reference: Reference, window: Window) -> NDArray[np.float64]:
    """witness_N of the N window rows: how much nearer each is to the window's other rows than to the reference's.

    Where it is high the window has more texts than the reference, which is what the embedding test found.
    Source: Gretton 2012, JMLR 13:723, section 2.3, the function whose mean difference is the MMD.
    """
    num_window = len(window)
    kernel_PP = rbf_kernel(np.concatenate([reference.project(window.embeddings_ND), reference.projected_MK]))
    own_N = kernel_PP[:num_window, :num_window].sum(axis=1, dtype=np.float64) / max(1, num_window - 1)
    return np.asarray(own_N - kernel_PP[:num_window, num_window:].mean(axis=1, dtype=np.float64))
