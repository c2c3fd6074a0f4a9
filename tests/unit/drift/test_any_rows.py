"""Any rows of the version table have a verdict that can be printed and sent as JSON."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gate.database.stamp import Stamp
from gate.drift import comparison
from gate.drift.comparison import Verdict
from gate.drift.inspector import Inspection
from gate.readiness import answer
from tests.support.strategies import IMAGE, ROW


@given(st.lists(ROW, max_size=5))
def test_any_rows_have_a_verdict_that_can_be_shown(rows: list[str]) -> None:
    drift = comparison.compare(IMAGE, rows)
    assert str(drift).isprintable()
    assert drift.verdict is not Verdict.CURRENT or {IMAGE.resolve(row) for row in rows} >= {*IMAGE.heads}
    stamp = Stamp("\x1b", "s", tuple(rows))
    response = answer.answer(answer.Readiness(Inspection(stamp, drift).drift))
    assert json.loads(response.body)["verdict"] == drift.verdict
