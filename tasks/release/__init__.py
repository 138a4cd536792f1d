"""Release: MLflow records and registers, BentoML packages, a boot check blesses, the ledger promotes.

The only importer of mlflow and of bentoml's build API.
"""
