"""Tags: the names of all tags of the runs, the versions and the registered model in MLflow."""

# Of a run, and most of them of its version, too
RUN_NAME = "repartee.run_name"
RECIPE = "repartee.recipe"
CORPUS = "repartee.corpus"  # the short name
SOURCE = "repartee.source"  # the corpus as it was given
FINGERPRINT = "repartee.train_fingerprint"
HOME = "repartee.home"  # the identity of the home that the run belongs to, wherever it is
LOCATION = "repartee.at"  # the machine and the home in which the run works
VERDICT = "repartee.verdict"
REASON = "repartee.reason"
JUDGED = "repartee.judged."  # with the time behind it: one verdict of several
PRECISION = "repartee.precision"  # this and the next two: what the training chose on its machine
DEVICE = "repartee.device"
FAST_PATH = "repartee.fast_path"
FLOW_RUN_ID = "prefect.flow_run_id"
FLOW_RUN_NAME = "prefect.flow_run_name"

# Of a version
DIGEST = "repartee.digest"  # of its folder
MODEL_DIGEST = "repartee.model_digest"  # of the output of the training
TEST_BPB = "repartee.test_bpb"
PROMOTED_AT = "repartee.promoted_at"
REPLACED = "repartee.previous"  # the champion before it
TAKEN_OUT = "repartee.taken_out"  # when and why a person replaced it

# Of the registered model
HISTORY = "repartee.history."  # with a number behind it: one promotion
INTENT = "repartee.intent"  # a promotion that has begun

# Of a run, by MLflow's own names
USER = "mlflow.user"
SOURCE_NAME = "mlflow.source.name"
COMMIT = "mlflow.source.git.commit"
NOTE = "mlflow.note.content"
DATASET_CONTEXT = "mlflow.data.context"
