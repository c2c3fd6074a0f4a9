"""Several histories: one waiting loop after the other, until all of them fit at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gate import errors, log
from gate.errors import GateError
from gate.waiting.loop import WaitLoop


def pass_all(loops: Sequence[WaitLoop]) -> None:
    """Return when all histories fit.

    A history that fitted may have changed while gate waited for a later one, or migrated it. Each is therefore checked
    again after that, and gate returns only after a round in which nothing had to be waited for.

    Raises every `GateError` of `WaitLoop.run`, with the history that it is about and what became of the others.
    """
    unfit = loops
    while unfit:
        for loop in unfit:
            with _about(loop, loops):
                loop.run()
        waited = len(loops) > 1 and any(loop.waited for loop in unfit)
        unfit = [loop for loop in loops if not _still_fits(loop, loops)] if waited else []


def _still_fits(loop: WaitLoop, loops: Sequence[WaitLoop]) -> bool:
    with _about(loop, loops):
        return loop.still_fits()


@contextmanager
def _about(loop: WaitLoop, loops: Sequence[WaitLoop]) -> Iterator[None]:
    """Name the history in log and errors, and note in an error what became of the others."""
    try:
        with log.about(loop.section), errors.about(loop.section):
            yield
    except GateError as error:
        others = [each for each in loops if each is not loop]
        migrated = [f"[{each.section}]" for each in others if each.migrated]
        if migrated:
            error.add_note(f"gate has migrated {' and '.join(migrated)} before, which stays so.")
        not_begun = [f"[{each.section}]" for each in others if not each.begun]
        if not_begun:
            error.add_note(f"gate has not begun with {' and '.join(not_begun)}.")
        raise
