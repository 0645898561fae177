-- Run once on an empty cluster, by the role that owns both; `prefect` is there already in the container.
CREATE DATABASE mlflow;
