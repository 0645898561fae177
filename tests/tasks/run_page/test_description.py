from models.evaluation.report import Sample
from tasks.run_page.description import shown_samples


def sample(context: str, said: str) -> Sample:
    return Sample(context=[context], reply="Hi.", said=said)


def test_half_of_the_shown_replies_are_to_the_openers() -> None:
    samples = [sample(f"opener {i}", "") for i in range(6)] + [sample(f"test {i}", "x") for i in range(6)]
    shown = [each.context[0] for each in shown_samples(samples)]
    assert shown == ["opener 0", "opener 1", "opener 2", "test 0", "test 1", "test 2"]


def test_no_context_is_shown_twice() -> None:
    samples = [sample("Hello.", ""), sample("Hello.", "Hi!"), sample("Bye.", "x"), sample("Bye.", "y")]
    assert [each.context[0] for each in shown_samples(samples)] == ["Hello.", "Bye."]
