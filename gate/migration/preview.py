"""What `gate plan` shows: the revisions that an upgrade would apply, as text, as SQL or as JSON.

Pure: values in, text out. In the SQL every line that is not a statement of Alembic's is a comment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gate.drift.comparison import Drift
from gate.redaction import hide_in_message, hide_in_value
from gate.text import printable


class RevisionPreview(NamedTuple):
    """One pending revision.

    `message`: the first paragraph of its docstring; `file`: its script; `sql`: its statements, None if they were not
    asked for or not rendered; `reason`: why they were not rendered, in one sentence; `may_wait`: whether it may wait
    until after the deployment.
    """

    revision: str
    message: str
    file: str
    sql: str | None = None
    reason: str = ""
    may_wait: bool = False

    @property
    def phase(self) -> str:
        """`required` before the deployment, or `post_deploy`."""
        return "post_deploy" if self.may_wait else "required"

    @property
    def title(self) -> str:
        """The revision, its message and its file in one line."""
        message = " ".join(self.message.split())
        phase = f" [{self.phase}]" if self.may_wait else ""
        return printable(hide_in_message(f"{self.revision}{': ' if message else ''}{message} ({self.file}){phase}"))


class Preview(NamedTuple):
    """What `gate migrate` would do now.

    `drift`: what gate found; `database`: its name; `summary`: sentences that say what `gate migrate` would do;
    `command`: GATE_UPGRADE_COMMAND, "" = Alembic's upgrade; `before`, `after`: as in `Rendering`, as SQL; `failure`: as
    there.
    """

    drift: Drift
    database: str
    summary: tuple[str, ...]
    command: str = ""
    revisions: tuple[RevisionPreview, ...] = ()
    before: str = ""
    after: str = ""
    failure: str = ""

    def as_text(self) -> str:
        """Return the revisions, one a line."""
        number = len(self.revisions)
        lines = [f"  {n}/{number}  {each.title}" for n, each in enumerate(self.revisions, start=1)]
        head = map(hide_in_message, (f"{self.drift.verdict} {self.drift}", *self.summary))
        return "\n".join([*head, *lines])

    def as_sql(self) -> str:
        """Return one block for each revision: a comment that names it, and its statements or why there are none."""
        head = _comments([f"gate plan: {self.drift.verdict} {self.drift}", *self.summary])
        parts = [head, self.before, *map(_block, self.revisions), self.after]
        return "\n\n".join(filter(None, parts))

    def as_json(self, *, with_sql: bool) -> dict[str, object]:
        """Return one JSON object; `with_sql`: with the statements."""
        drift = self.drift
        fields: dict[str, object] = {
            "verdict": drift.verdict,
            "drift": str(drift),
            "stamped": list(drift.stamped),
            "expected": list(drift.expected),
            "target": drift.target,
            "deferred": list(drift.deferred),
            "database": self.database,
            "summary": " ".join(self.summary),
            "upgrade_command": self.command or None,
        }
        statements = {"before": self.before, "after": self.after} if with_sql else {}
        error = {"error": self.failure or None} if with_sql else {}
        revisions = [_as_json(each, with_sql=with_sql) for each in self.revisions]
        return {**hide_in_value({**fields, **error}), "revisions": revisions, **statements}


def as_sql(written: Iterable[str]) -> str:
    """Return what Alembic has written as SQL in which each statement ends with one semicolon."""
    return "\n\n".join(filter(None, map(_terminated, written)))


def _terminated(text: str) -> str:
    """End one statement with one semicolon.

    Alembic appends a semicolon to what `op.execute` receives, which may end with one itself, or with a comment that
    would contain it. A line break before a semicolon changes nothing, so a line that may end with a comment gets one.
    """
    text = text.strip()
    if not text.endswith(";"):  # a comment, or a separator such as GO
        return text
    statement = text.rstrip("; \t\r\n")
    last_line = statement.rpartition("\n")[2]
    may_end_with_comment = "--" in last_line or "#" in last_line
    return f"{statement}\n;" if statement and may_end_with_comment else statement and f"{statement};"


def _block(revision: RevisionPreview) -> str:
    lines = [f"revision {revision.title}", *([f"gate has no SQL: {revision.reason}"] if revision.reason else [])]
    return "\n".join(filter(None, [_comments(lines), revision.sql]))


def _comments(lines: Sequence[str]) -> str:
    return "\n".join(f"-- {printable(hide_in_message(line))}" for line in lines)


def _as_json(revision: RevisionPreview, *, with_sql: bool) -> dict[str, object]:
    fields: dict[str, object] = {
        "revision": revision.revision,
        "message": revision.message,
        "file": revision.file,
        "phase": revision.phase,
    }
    if not with_sql:
        return dict(hide_in_value(fields))
    return {**hide_in_value({**fields, "reason": revision.reason or None}), "sql": revision.sql}
