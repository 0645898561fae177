-- PostgreSQL's container runs this file when it first starts, as the owner of both databases. The database
-- `prefect` is not created here, because POSTGRES_DB in compose.yaml makes the container create it.
CREATE DATABASE mlflow;
