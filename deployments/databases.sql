-- Run once on an empty cluster, as the owner of both databases. In the container, `prefect` exists already.
CREATE DATABASE mlflow;
