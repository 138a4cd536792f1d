"""Order and branching of the stages, as Prefect flows, and the command line."""

import os

from bento import settings

settings.configure()  # before any import of prefect or mlflow, which read their homes once

if "OMP_WAIT_POLICY" not in os.environ:
    # torch's threads wait for one another by spinning, 300,000 turns by default. Two trainings on the same two cores
    # then did a quarter to a half of what one does alone; with 4,000 turns they do 0.88 of it, and one loses nothing.
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
