"""`gate check` and `gate heads`: one look, told on standard output."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

from gate import explanation, settings
from gate.assembly import Assembly, assemble
from gate.drift import Verdict
from gate.errors import GateError
from gate.foreign import printable
from gate.look import Seen
from gate.migrator import VersionTableLocked
from gate.redaction import hide
from gate.streams import answer, say


def heads(arguments: SimpleNamespace) -> int:
    """Tell what the image expects, without a database."""
    try:
        graph = _assembled(arguments, whole=True).image.graph
    except GateError as error:
        return _failed(error, arguments)
    if arguments.json:
        text = json.dumps({"heads": list(graph.heads), "revisions": len(graph.revisions)})
    else:
        text = "\n".join(map(printable, graph.heads))
    return 0 if answer(text) else GateError.exit_code


def check(arguments: SimpleNamespace) -> int:
    """Look once; 0 if the schema fits, 1 on drift, 69 or 78 if nothing could be seen."""
    if arguments.busy:
        return _busy(arguments)
    try:
        seen = _assembled(arguments).looker().look()
    except GateError as error:
        return _failed(error, arguments)
    answer(json.dumps(as_json(seen)) if arguments.json else _as_text(seen))
    return 0 if seen.drift.fits else 1


def as_json(seen: Seen) -> dict[str, object]:
    """One look as one object; `messages` tells of each pending revision what its script says."""
    drift, stamp = seen.drift, seen.stamp
    return {
        "verdict": drift.verdict,
        "drift": str(drift),
        "stamped": list(drift.stamped),
        "expected": list(drift.expected),
        "pending": list(drift.pending),
        "messages": drift.messages,
        "unknown": list(drift.unknown),
        "redundant": list(drift.redundant),
        "database": stamp.database,
        "schema": stamp.schema,
        "migrating": str(stamp.migrator) if stamp.migrator else None,
    }


def _as_text(seen: Seen) -> str:
    drift = seen.drift
    lines = [f"{drift.verdict} {drift}", explanation.happened(drift, seen.stamp.database)]
    if drift.verdict in {Verdict.BEHIND, Verdict.EMPTY}:
        lines += [f"  {printable(id_)}  {printable(drift.messages[id_])}".rstrip() for id_ in drift.pending]
    if seen.stamp.migrator:
        lines.append(f"Migrating now: {printable(str(seen.stamp.migrator))}.")
    elif advice := explanation.cure(drift, standby=seen.stamp.standby):
        lines.append(advice)
    if drift.redundant:
        lines.append(f"WARNING {explanation.redundant(drift)}")
    return "\n".join(lines)


def _busy(arguments: SimpleNamespace) -> int:
    """For an updater's pre-update hook, so any error is 0: a broken image must be updated (HAZARDS 8)."""
    try:
        migrator = _assembled(arguments).looker(migrating=True).look().stamp.migrator
    except VersionTableLocked as error:
        migrator = error.migrator
    except GateError as error:
        _failed(error, arguments)
        return 0
    if arguments.json:
        answer(json.dumps({"migrating": str(migrator) if migrator else None}))
    else:
        answer(f"Migrating now: {printable(str(migrator))}." if migrator else "Nobody is migrating.")
    return 75 if migrator else 0


def _assembled(arguments: SimpleNamespace, *, whole: bool = False) -> Assembly:
    told = settings.read(os.environ, arguments.flags)
    assembled = assemble(arguments, told, whole=whole)
    for remark in assembled.remarks().values():
        say(remark)
    return assembled


def _failed(error: GateError, arguments: SimpleNamespace) -> int:
    text = hide(str(error))
    say(*text.splitlines())
    if arguments.json:
        answer(json.dumps({"verdict": None, "error": text}))
    return error.exit_code
