"""Recorded steps: functions of a run that Prefect records as tasks."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from tasks.store.run_context import RunContext

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")
Step = Callable[Concatenate[RunContext, Arguments], Returned]


def recorded(name: str) -> Callable[[Step[Arguments, Returned]], Step[Arguments, Returned]]:
    """Make a function a task of this name. Its outputs are kept in the store, not in Prefect's cache.

    Prefect draws an arrow from each task whose result it finds among the arguments of another. In the context
    of the run it would find short texts and numbers that are also parts of results, so it does not search it.
    """

    def decorate(function: Step[Arguments, Returned]) -> Step[Arguments, Returned]:
        as_task = task(name=name, task_run_name=name, cache_policy=NO_CACHE)(function)

        @wraps(function)
        def call(run: RunContext, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
            return as_task(cast(Any, quote(run)), *args, **kwargs)

        return call

    return decorate
