from models.evaluation.report import Report


def test_the_counts_and_the_baseline_of_a_report_are_no_measures_of_the_model() -> None:
    figures = {"test_bpb": 1.5, "distinct_1": 0.5, "test_majority_accuracy": 0.1, "test_replies": 7}
    report = Report(metrics={**figures, "parameters": 900}, normalisation="plain")
    assert report.measures() == {"bpb": 1.5, "distinct_1": 0.5}
