"""State of the tests goes to a folder of its own, made before Prefect is imported, which reads its home once."""

import os
import tempfile

os.environ["RETORT_HOME"] = tempfile.mkdtemp(prefix="retort-tests-")
for name in ("RETORT_DATABASE_URL", "RETORT_STORE", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
    os.environ.pop(name, None)
