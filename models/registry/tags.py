"""The names of all MLflow tags that Repartee uses."""

# Tags of a run; most of them are also tags of the version that the run registered
RUN_NAME = "repartee.run_name"
RECIPE = "repartee.recipe"
CORPUS = "repartee.corpus"  # the short name of the corpus
SOURCE = "repartee.source"  # the corpus as the user gave it
FINGERPRINT = "repartee.train_fingerprint"
CHANGES = "repartee.changes"  # the settings that differ from the recipe, written as for --set
HOME = "repartee.home"  # the identity of the run's home, which does not depend on the home's path
LOCATION = "repartee.at"  # the machine, and the path of the run's home on it
VERDICT = "repartee.verdict"  # promoted or refused; on versions of earlier releases, the reason
REASON = "repartee.reason"
JUDGED = "repartee.judged."  # a prefix; the time of the verdict follows
PRECISION = "repartee.precision"  # this and the next two tags: how the run trained on its machine
DEVICE = "repartee.device"
FAST_PATH = "repartee.fast_path"
SCHEDULE = "repartee.schedule"  # the schedule that started the run
FLOW_RUN_ID = "prefect.flow_run_id"
FLOW_RUN_NAME = "prefect.flow_run_name"
FLOW_RUN_URL = "prefect.flow_run_url"  # absent if the Prefect server ended with the run

# Tags of a version. docs/mlflow.md explains why the hashes of a version are also stored as tags
DIGEST = "repartee.digest"  # the SHA-256 of the version's manifest
CONTENT_DIGEST = "repartee.content_digest"  # DIGEST without the files for MLflow; also set on logged models
MODEL_DIGEST = "repartee.model_digest"  # the digest of the training run's output
TEST_BPB = "repartee.test_bpb"
TEST_ACCURACY = "repartee.test_accuracy"
PROMOTED_AT = "repartee.promoted_at"
REPLACED = "repartee.previous"  # the champion that this version replaced
TAKEN_OUT = "repartee.taken_out"  # when and why a user took the version out of service

# Tags of the registered model
HISTORY = "repartee.history."  # a prefix; the number of the promotion follows
INTENT = "repartee.intent"  # a promotion in progress

# Tags of a run that MLflow itself defines
USER = "mlflow.user"
SOURCE_NAME = "mlflow.source.name"
COMMIT = "mlflow.source.git.commit"
NOTE = "mlflow.note.content"
DATASET_CONTEXT = "mlflow.data.context"
LOGGED_ARTIFACTS = "mlflow.loggedArtifacts"  # the artifacts that MLflow's pages show as tables

# Tag of an experiment that MLflow itself defines
EXPERIMENT_KIND = "mlflow.experimentKind"  # determines which tabs MLflow shows

# Tag of a logged model that MLflow itself defines
MODEL_VERSIONS = "mlflow.modelVersions"  # the versions that were registered from the logged model
