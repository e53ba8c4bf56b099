"""Blocking iterators, read in a thread some items at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import TypeVar

from visualindex.errors import ProblemError

T = TypeVar("T")


async def in_parts(items: Iterator[T], at_once: int) -> AsyncIterator[T]:
    """The items; `at_once` of them are read ahead. Those before a problem come before it is raised."""

    def part() -> tuple[list[T], ProblemError | None]:
        read: list[T] = []
        try:
            for item in islice(items, at_once):
                read.append(item)  # noqa: PERF402 - what was read before a problem is kept
        except ProblemError as problem:
            return read, problem
        return read, None

    while True:
        read, problem = await asyncio.to_thread(part)
        for item in read:
            yield item
        if problem is not None:
            raise problem
        if not read:
            return
