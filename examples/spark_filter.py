"""Filter a table on Spark: every Python worker loads the guard once, and rows go through it in Spark's own batches.

    pip install 'guard-service[data]' pyspark                       # on every node
    spark-submit examples/spark_filter.py chats.parquet safe.parquet [--model BUNDLE]

The rows need a column `prompt` (and may have `response`), or `messages`. The SAFE ones are written with the columns of
`guard filter`; those that could not be judged have a reason in `guard_error` and are kept apart, in OUT.quarantine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col

from guard.filter import map_fn

if TYPE_CHECKING:
    import pandas

ADDED = (
    "guard_outcome string, guard_p_unsafe double, guard_flagged array<string>, guard_categories string, "
    "guard_coverage string, guard_model string, guard_policy string, guard_error string"
)


def judged(rows: DataFrame, model: str | None = None) -> DataFrame:
    """The rows with the columns of `guard filter`, and guard_error."""
    judge = map_fn(model=model, threads=1)

    def work(frames: Iterator[pandas.DataFrame]) -> Iterator[pandas.DataFrame]:
        for frame in frames:
            plain = frame.astype(object).where(frame.notna(), None)  # pandas has NaN for a null
            yield frame.assign(**judge(plain.to_dict("list")))

    own = ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in rows.schema)
    return rows.mapInPandas(work, f"{own}, {ADDED}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="a Parquet table")
    parser.add_argument("out")
    parser.add_argument("--model", help="a bundle at the same path on every node; the shipped guard if left out")
    given = parser.parse_args()
    spark = SparkSession.builder.appName("guard filter").getOrCreate()
    every = judged(spark.read.parquet(given.rows), given.model).cache()  # judged once, written twice
    every.where(col("guard_outcome") == "SAFE").drop("guard_error").write.parquet(given.out)
    broken = col("guard_error").isNotNull() | (col("guard_outcome") == "INCOMPLETE")
    every.where(broken).write.parquet(f"{given.out}.quarantine")
    every.groupBy("guard_outcome").count().show()
    spark.stop()


if __name__ == "__main__":
    main()
