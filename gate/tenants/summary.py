"""What has become of many schemas, in sentences that stay short with ten thousand of them, and as one error.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gate.errors import BadSettings, DatabaseLost, DatabaseUnavailable, GateError, MigrationFailed
from gate.text import join_ids, short_name, truncate

MAX_DESCRIBED = 3
"""Failed schemas whose errors the last message quotes; each has a log event of its own."""

MAX_ERROR_LENGTH = 700
"""Characters of such an error."""

GRAVEST_FIRST = (MigrationFailed, BadSettings, DatabaseLost, DatabaseUnavailable)
"""Whose exit code counts where schemas have failed in several ways: first what another try does not heal."""


@dataclass(slots=True)
class Summary:
    """What has become of the schemas of one call.

    `total`: how many were to be migrated; `migrated`: those that this gate has migrated; `by_others`: those that
    another one has; `dropped`: those that no longer exist; `busy`: those whose lock another gate holds; `failures`: the
    error of each that has failed; `not_begun`: how many were left because another one has failed.
    """

    total: int
    migrated: list[str] = field(default_factory=list)
    by_others: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    failures: dict[str, GateError] = field(default_factory=dict)
    not_begun: int = 0

    @property
    def done(self) -> int:
        """The number of schemas with which nothing is left to do."""
        return len(self.migrated) + len(self.by_others) + len(self.dropped) + len(self.failures)

    def text(self, seconds: float) -> str:
        """Return the summary in one sentence."""
        counts = {
            "failed": len(self.failures),
            "migrated by another gate": len(self.by_others),
            "dropped meanwhile": len(self.dropped),
            "being migrated by another gate": len(self.busy),
            "not begun": self.not_begun,
        }
        rest = "".join(f", {number:,} {what}" for what, number in counts.items() if number)
        return f"gate migrated {len(self.migrated):,} of {self.total:,} schemas in {seconds:.1f} s{rest}."

    def error(self, *, keep_going: bool) -> GateError | None:
        """Return one error for all that have failed, None if none has."""
        for kind in GRAVEST_FIRST:
            if any(isinstance(error, kind) for error in self.failures.values()):
                return kind(self._failure_text(kind, keep_going=keep_going))
        return next(iter(self.failures.values()), None)

    def _failure_text(self, gravest: type[GateError], *, keep_going: bool) -> str:
        names = sorted(self.failures, key=lambda name: not isinstance(self.failures[name], gravest))
        described = "; ".join(
            f"{short_name(name)}: {shorten_message(self.failures[name])}" for name in names[:MAX_DESCRIBED]
        )
        more = names[MAX_DESCRIBED:]
        others = f" Also failed: {join_ids(more)}." if more else ""
        left = ""
        if self.not_begun and not keep_going:
            left = f" {self.not_begun:,} were not begun; with --keep-going a failed schema leaves the others alone."
        return (
            f"{len(names):,} of {self.total:,} schemas failed: {described}{others}{left} {len(self.migrated):,} were "
            "migrated and stay so: migrate again when this is fixed, and gate continues with what is still behind."
        )


def shorten_message(error: GateError) -> str:
    """Return an error in one line of bounded length, as a sentence."""
    text = truncate(" ".join(str(error).split()), MAX_ERROR_LENGTH)
    return text if text.endswith((".", "…")) else f"{text}."
