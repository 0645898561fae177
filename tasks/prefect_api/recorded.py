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
    """Turn a function into a Prefect task with this name. Prefect does not cache the results of the task.

    Prefect draws an edge between two tasks if it finds the result of one task in the arguments of the other
    task. The run context is quoted so that Prefect does not search it, because its short strings and numbers
    may happen to equal the results of tasks.
    """

    def decorate(function: Step[Arguments, Returned]) -> Step[Arguments, Returned]:
        as_task = task(name=name, task_run_name=name, cache_policy=NO_CACHE)(function)

        @wraps(function)
        def call(run: RunContext, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
            return as_task(cast(Any, quote(run)), *args, **kwargs)

        return call

    return decorate
