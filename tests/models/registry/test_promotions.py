import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from registries import three

from models.errors import TrackingUnavailable
from models.registry.promotions import FOREIGN, ChampionMoved
from models.registry.versions import Registry


class Killed(BaseException):
    """Simulates `kill -9`: code under test does not handle this exception."""


class Mortal(Registry):
    """A registry that raises an error before its n-th write to MLflow."""

    def die_before(self, write: int, error: BaseException) -> None:
        vars(self).update(writes_left=write, error=error)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        if "writes_left" in vars(self):
            vars(self)["writes_left"] -= 1
            if vars(self)["writes_left"] < 0:
                raise vars(self)["error"]
        with super().writing() as client:
            yield client


def mortal(registry: Registry) -> Mortal:
    return Mortal(registry.tracking_uri, registry.artifacts, registry.model)


def entries(registry: Registry) -> list[tuple[int, int | None, str]]:
    return [(entry.version, entry.previous, entry.why) for entry in registry.history()]


def tags_of(registry: Registry) -> dict[str, str]:
    return dict(registry.client.get_registered_model(registry.model).tags)


@pytest.mark.parametrize("by_hand", [False, True])
def test_killed_before_any_write_the_champion_its_history_and_the_next_rollback_agree(
    registry: Registry, tmp_path: Path, by_hand: bool
) -> None:
    one, two, _ = three(registry, tmp_path)
    registry.promote(one, "the first")
    for write in range(20):
        dying = mortal(registry)
        dying.die_before(write, Killed())
        try:
            dying.promote(two, "better", judged_against=1, by_hand=by_hand)
        except Killed:
            pass
        else:
            break
        serves = registry.find("champion").number
        assert registry.history()[0].version == serves, "the history is right even before it is reconciled"
        registry.reconcile()
        expected = [(1, None, "the first")] if serves == 1 else [(2, 1, "better"), (1, None, "the first")]
        assert entries(registry) == expected
        assert "repartee.intent" not in tags_of(registry)
        if serves == 2:
            assert registry.find("previous").number == 1
            assert ("repartee.taken_out" in registry.find("1").tags) == by_hand
            registry.client.set_registered_model_alias(registry.model, "champion", "1")
            newest = max(key for key in tags_of(registry) if key.startswith("repartee.history."))
            registry.client.delete_registered_model_tag(registry.model, newest)
    assert write > 4, "the promotion was never killed"
    assert entries(registry)[0] == (2, 1, "better")


def test_an_outage_after_the_alias_has_moved_is_a_promotion_that_the_next_start_records(
    registry: Registry, tmp_path: Path
) -> None:
    one = three(registry, tmp_path)[0]
    dying = mortal(registry)
    dying.die_before(2, TrackingUnavailable("MLflow does not answer"))
    dying.promote(one, "the first")
    assert "repartee.intent" in tags_of(registry)
    assert registry.reconcile() and not registry.reconcile()
    assert entries(registry) == [(1, None, "the first")]


def test_a_verdict_about_a_former_champion_promotes_nothing(registry: Registry, tmp_path: Path) -> None:
    one, two, three_ = three(registry, tmp_path)
    registry.promote(one, "the first")
    registry.promote(two, "a person wants it", by_hand=True)
    with pytest.raises(ChampionMoved, match=r"against champion v1, but v2 is the champion now"):
        registry.promote(three_, "better than v1", judged_against=1)
    assert registry.find("champion").number == 2
    assert len(entries(registry)) == 2
    with pytest.raises(ChampionMoved, match="without a champion"):
        registry.promote(three_, "there was no champion", judged_against=None)


def test_an_alias_that_others_moved_is_in_the_history_at_the_next_start(
    registry: Registry, tmp_path: Path
) -> None:
    one, _, three_ = three(registry, tmp_path)
    registry.promote(one, "the first")
    registry.client.set_registered_model_alias(registry.model, "champion", "2")
    assert registry.reconcile() == ["the champion v2 was missing from the history; it is now recorded"]
    assert entries(registry)[0] == (2, 1, FOREIGN)
    registry.promote(three_, "better", judged_against=2)
    assert entries(registry)[0] == (3, 2, "better")


def test_what_a_person_took_out_is_known_by_its_training_and_by_its_weights(
    registry: Registry, tmp_path: Path
) -> None:
    one, two, _ = three(registry, tmp_path)
    registry.tag(two, {"repartee.model_digest": "d" * 64})
    registry.promote(one, "the first")
    registry.promote(two, "better", judged_against=1)
    assert registry.taken_out(f"{registry.model}-0", "") is None, "the gate replaced it, not a user"
    registry.promote(one, "v2 was rolled back", by_hand=True)
    for fingerprint, digest in ((f"{registry.model}-1", ""), ("", "d" * 64)):
        found = registry.taken_out(fingerprint, digest)
        assert found is not None and found[0] == 2 and "v2 was rolled back" in found[1]
    registry.promote(two, "a person wants it", by_hand=True)
    assert registry.taken_out(f"{registry.model}-1", "") is None
    assert registry.taken_out(f"{registry.model}-0", "") is not None


def test_a_promotion_names_the_prefect_run_that_did_it(registry: Registry, tmp_path: Path) -> None:
    one, two, _ = three(registry, tmp_path)
    registry.promote(one, "by hand: it is good", by_hand=True)
    registry.promote(two, "better", judged_against=1, flow_run_id="0c4ff0a6-8a34")
    assert [entry.flow_run_id for entry in registry.history()] == ["0c4ff0a6-8a34", None]
    assert entries(registry) == [(2, 1, "better"), (1, None, "by hand: it is good")]


def test_an_intent_holds_the_longest_reason_and_any_text(registry: Registry, tmp_path: Path) -> None:
    one = three(registry, tmp_path)[0]
    dying = mortal(registry)
    dying.die_before(2, Killed())
    why = 'a "quote", a\nline, ü ' * 400
    with pytest.raises(Killed):
        dying.promote(one, why)
    assert json.loads(tags_of(registry)["repartee.intent"])["why"]
    registry.reconcile()
    assert registry.history()[0].why == why[:4000]


def test_a_finished_run_keeps_what_trained_it_and_how_long_it_took(
    registry: Registry, tmp_path: Path
) -> None:
    fingerprint = registry.model
    run_id = registry.open_run(fingerprint, "night", {"seed": 1}, {"prefect.flow_run_id": "first"})
    registry.close_run(run_id, "FINISHED")
    before = registry.client.get_run(run_id)
    again = registry.open_run(fingerprint, "night", {"seed": 1}, {"prefect.flow_run_id": "second"})
    registry.close_run(again, "FINISHED")
    after = registry.client.get_run(run_id)
    assert again == run_id
    assert after.data.tags["prefect.flow_run_id"] == "first"
    assert after.info.end_time == before.info.end_time


def test_two_homes_with_one_fingerprint_have_a_run_each_and_close_their_own(registry: Registry) -> None:
    at = {"repartee.at": "host:/var/repartee"}
    mine = registry.open_run(registry.model, "night", {}, {**at, "repartee.home": f"{registry.model}-a"})
    theirs = registry.open_run(registry.model, "night", {}, {**at, "repartee.home": f"{registry.model}-b"})
    assert mine != theirs
    assert registry.open_runs(f"{registry.model}-a", "host:/var/repartee") == [mine]
    assert registry.open_run(registry.model, "night", {}, {"repartee.home": f"{registry.model}-a"}) == mine


def test_a_run_of_before_homes_had_an_identity_is_known_by_its_path(registry: Registry) -> None:
    at = f"host:/{registry.model}"
    run_id = registry.open_run(registry.model, "night", {}, {"repartee.at": at})
    assert registry.open_runs("any", at) == [run_id]
    assert registry.open_runs("any", "host:/elsewhere") == []


def test_a_deleted_run_is_noticed_whether_or_not_it_was_collected(registry: Registry) -> None:
    run_id = registry.open_run(registry.model, "night", {}, {})
    assert not registry.is_deleted(run_id)
    registry.client.delete_run(run_id)
    assert registry.is_deleted(run_id)
    assert registry.is_deleted("0" * 32)
