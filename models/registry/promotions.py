"""Promotes versions, and records which version is the champion, since when, and why.

A promotion happens completely or not at all. It records its intent, moves the alias, and then adds an entry
to the history; docs/decisions/0012-promotion.md gives the reason for this order. The alias belongs to
MLflow's registered model, and the intent and the history are stored in tags of this registered model.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from models.errors import InputError, TrackingUnavailable
from models.registry.history import (
    MAX_WHY,
    Intent,
    Promotion,
    dump_intent,
    entries_of,
    intent_of,
    is_recorded,
    promotion_of,
)
from models.registry.runs import Tracking
from models.registry.tags import HISTORY, INTENT, PROMOTED_AT, REPLACED, TAKEN_OUT

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel
    from mlflow.tracking.client import MlflowClient

log = logging.getLogger(__name__)

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
LOCK_SECONDS = 120  # a promotion makes a few requests, and each may take a while
WHOEVER = 0  # passed instead of a version number if a user promotes: any champion may be replaced
FOREIGN = "the alias was moved outside of Repartee"


class ChampionMoved(InputError):
    """The champion is no longer the version with which the new model was compared."""


class Promotions(Tracking):
    """The aliases of the registered model, and the history of its champion."""

    def history(self) -> list[Promotion]:
        """All promotions, newest first, including one that took effect but has no history entry yet.

        Raises:
            TrackingUnavailable, InputError: MLflow cannot be used; the method `reading` lists the cases.
        """
        tags, aliases = self._model_state()
        entries = entries_of(tags)
        intent = intent_of(tags)
        if intent and aliases.get(CHAMPION) == intent.version and not is_recorded(intent, entries):
            entries = [promotion_of(intent.entry()), *entries]
        return entries

    def lines(self) -> list[str]:
        """The names of the model lines that have had a champion, in alphabetical order."""
        models = self.find_or_none(_registered_models) or []
        return sorted(model.name for model in models if entries_of(model.tags))

    def check_champion(self, number: int | None) -> None:
        """Check that the champion is the version `number`; None means that there must be no champion.

        Raises:
            ChampionMoved: the champion is another version.
        """
        champion = self._model_state()[1].get(CHAMPION)
        if champion != number:
            raise ChampionMoved(_moved_message(number, champion))

    def reconcile(self) -> list[str]:
        """Complete or drop an interrupted promotion, and record an alias that was moved outside of Repartee.

        Returns:
            The messages to log."""
        tags, aliases = self._model_state()
        if INTENT not in tags and not _foreign_champion(tags, aliases):
            return []
        with self._promoting():
            return [*self._finish(), *self._record_foreign()]

    def _promote(
        self, number: int, why: str, *, judged_against: int | None, by_hand: bool, flow_run_id: str | None
    ) -> None:
        """Make the version `number` the champion, and record this in the history.

        Raises:
            ChampionMoved: the champion is neither the version `judged_against` nor the version `number`.
        """
        with self._promoting():
            for line in [*self._finish(), *self._record_foreign(but=number)]:
                log.warning(line)
            tags, aliases = self._model_state()
            champion = aliases.get(CHAMPION)
            if judged_against != WHOEVER and champion not in (judged_against, number):
                raise ChampionMoved(_moved_message(judged_against, champion))
            newest = next(iter(entries_of(tags)), None)
            if champion == number and newest and newest.version == number:
                return
            previous = newest.version if newest and newest.version != number else None
            intent = Intent(_now(), number, previous, why[:MAX_WHY], flow_run_id, by_hand)
            self._tag_model(INTENT, dump_intent(intent))
            if champion != number:
                self._point(CHAMPION, number)
            self._complete(number)

    def _complete(self, number: int) -> None:
        """Complete a promotion whose alias has moved. If MLflow does not answer, a later run completes it.

        Raises:
            InputError: another process has promoted another version at the same time.
        """
        try:
            self._finish()
            champion = self._model_state()[1].get(CHAMPION)
        except TrackingUnavailable as outage:
            log.warning(
                "version %d is the champion now, but only the next run can add it to the history: %s",
                number,
                outage,
            )
            return
        if champion != number:
            now_serving = "no version" if champion is None else f"v{champion}"
            raise InputError(
                f"v{number} was promoted, but now {now_serving} is the champion, because another process "
                "changed the champion at the same time; compare the versions (`repartee models`)"
            )

    def _finish(self) -> list[str]:
        """Record the intended promotion if the alias has moved, else drop it. Return the messages to log."""
        tags, aliases = self._model_state()
        intent = intent_of(tags)
        if intent is None:
            return []
        if aliases.get(CHAMPION) != intent.version:
            self._forget_intent()
            return [
                f"the promotion of v{intent.version} was interrupted before it took effect and is dropped"
            ]
        replaced = intent.previous
        if replaced is not None and self._exists(replaced):
            self._point(PREVIOUS, replaced)
            if intent.by_hand:
                self._tag_version(replaced, TAKEN_OUT, f"{intent.at}: {intent.why}")
        if intent.by_hand:
            self._clear(intent.version, TAKEN_OUT)
        self._tag_version(intent.version, PROMOTED_AT, intent.at)
        self._tag_version(intent.version, REPLACED, "" if replaced is None else str(replaced))
        self._record(intent)
        self._forget_intent()
        return [f"the promotion of v{intent.version} was interrupted; it is now recorded in the history"]

    def _record_foreign(self, but: int | None = None) -> list[str]:
        """Record a champion that the history lacks, except the version `but`; a rollback needs this entry.

        Returns:
            The messages to log."""
        tags, aliases = self._model_state()
        number = _foreign_champion(tags, aliases)
        if number is None or number == but:
            return []
        newest = next(iter(entries_of(tags)), None)
        previous = newest.version if newest else None
        self._record(Intent(_now(), number, previous, FOREIGN, None, False))
        return [f"the champion v{number} was missing from the history; it is now recorded"]

    def _record(self, intent: Intent) -> None:
        entries = entries_of(self._model_state()[0])
        if not is_recorded(intent, entries):
            # The key contains a sequence number and no date, so a clock change cannot alter the order.
            key = f"{HISTORY}{len(entries) + 1:06d}-v{intent.version}"
            self._tag_model(key, intent.entry())

    @contextmanager
    def _promoting(self) -> Iterator[None]:
        """Within this context, no other process of this home can promote; a process of another home can.

        Raises:
            InputError: another promotion has been running for too long.
        """
        if self.artifacts is None:
            yield
            return
        folder = self.artifacts.parent / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / "promotion.lock"
        try:
            with FileLock(lock, timeout=LOCK_SECONDS):
                yield
        except Timeout:
            raise InputError(
                f"another promotion has been running for {LOCK_SECONDS} s (lock {lock}); end it and try again"
            ) from None

    def _model_state(self) -> tuple[dict[str, str], dict[str, int]]:
        """The registered model's tags, and the version that each alias points to."""
        model = self.find_or_none(lambda client: client.get_registered_model(self.model))
        if model is None:
            return {}, {}
        return dict(model.tags), {alias: int(number) for alias, number in model.aliases.items()}

    def _exists(self, number: int) -> bool:
        version = self.find_or_none(lambda client: client.get_model_version(self.model, str(number)))
        return version is not None

    def _point(self, alias: str, number: int) -> None:
        self._set(lambda client: client.set_registered_model_alias(self.model, alias, str(number)))

    def _tag_model(self, key: str, value: str) -> None:
        self._set(lambda client: client.set_registered_model_tag(self.model, key, value))

    def _tag_version(self, number: int, key: str, value: str) -> None:
        self._set(lambda client: client.set_model_version_tag(self.model, str(number), key, value))

    def _clear(self, number: int, key: str) -> None:
        with self.reading() as client:
            version = client.get_model_version(self.model, str(number))
        if key in version.tags:
            with self.writing() as client:
                client.delete_model_version_tag(self.model, str(number), key)

    def _forget_intent(self) -> None:
        with self.writing() as client:
            client.delete_registered_model_tag(self.model, INTENT)

    def _set(self, write: "Callable[[MlflowClient], None]") -> None:
        """Set an alias or a tag; try again if another process has just created the same alias or tag."""
        try:
            with self.writing() as client:
                write(client)
        except Exception as error:
            if "IntegrityError" not in str(error):
                raise
            with self.writing() as client:
                write(client)


def _foreign_champion(tags: Mapping[str, str], aliases: Mapping[str, int]) -> int | None:
    """The champion's number if the newest history entry names another version; otherwise None."""
    champion: Any = aliases.get(CHAMPION)
    newest = next(iter(entries_of(tags)), None)
    return champion if champion is not None and (newest is None or newest.version != champion) else None


def _moved_message(judged_against: int | None, champion: int | None) -> str:
    was = "without a champion" if judged_against is None else f"against champion v{judged_against}"
    now = "there is no champion now" if champion is None else f"v{champion} is the champion now"
    return f"the model was judged {was}, but {now}: the verdict is out of date; run the same command again"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _registered_models(client: "MlflowClient") -> "list[RegisteredModel]":
    models: list[RegisteredModel] = []
    token = None
    while token != "":
        page = client.search_registered_models(page_token=token)
        models += page
        token = page.token or ""
    return models
