"""Order and branching of the stages, as Prefect flows, and the command line."""

from bento import settings

settings.configure()  # before any import of prefect or mlflow, which read their homes once
