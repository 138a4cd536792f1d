"""What a person runs on a cluster, here on two local workers: argument 1 is the model, 2 the number of rows.

Prints the answers, the size of what Spark ships to the workers, and, of loading the model once a partition, which
process held which predictor.
"""

import json
import os
import sys

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # workers run the driver's Python

import mlflow
from pyspark.serializers import CloudPickleSerializer
from pyspark.sql import SparkSession

ANSWER = "label string, probability double, abstained boolean"
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
classify = mlflow.pyfunc.spark_udf(spark, sys.argv[1], env_manager="local", result_type=ANSWER)
texts = spark.createDataFrame(
    [(at, f"my card is lost {'please ' * (at % 3)}") for at in range(int(sys.argv[2]))], ["id", "text"]
)
answered = texts.repartition(4).withColumn("answer", classify("text")).select("id", "answer.*").orderBy("id")
rows = [row.asDict() for row in answered.collect()]

folder = mlflow.artifacts.download_artifacts(sys.argv[1])


def held(_: object) -> list[tuple[int, int]]:
    """This worker's process, and the identity of its predictor."""
    predictor = mlflow.pyfunc.load_model(folder).unwrap_python_model().predictor
    return [(os.getpid(), id(predictor))]


predictors = spark.sparkContext.parallelize(range(12), 12).mapPartitions(held).collect()
shipped_bytes = len(CloudPickleSerializer().dumps(classify.func))
spark.stop()
sys.stdout.write(json.dumps({"rows": rows, "predictors": predictors, "shipped_bytes": shipped_bytes}))
