"""Writes the figures of docs/reliability.md from the records of `make nightly`; run it with `python -m`.

Each part of `make nightly` records its tests as JUnit XML in build/nightly. A part that was not run is named as such.
"""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.docs import format_table, replace_figures
from tests.support.failover_rounds import ALL_VICTIMS
from tests.support.kill_rounds import KillTable

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "build" / "nightly"
PAGE = ROOT / "docs" / "reliability.md"

PARTS = {
    "applications": "real applications from the package registry",
    "cluster": "Kubernetes and Helm, in a real cluster",
    "examples": "drawn inputs",
    "kills": "kills, lost servers and networks, poolers, races",
    "lowest": "packages, and the lowest versions of what gate needs",
}
"""Name of the record -> what the part tries."""


@dataclass
class Record:
    """One part of the run. `examples`: module -> drawn examples."""

    day: str
    hours: float
    tests: int
    failed: int
    examples: Counter[str] = field(default_factory=Counter)
    properties: Counter[str] = field(default_factory=Counter)
    kills: KillTable = field(default_factory=lambda: KillTable(ALL_VICTIMS))


def read_record(path: Path) -> Record:
    """Read what pytest has recorded of one part."""
    suites = ET.parse(path).getroot()
    [suite] = suites.iter("testsuite")
    record = Record(
        suite.attrib["timestamp"][:10],
        float(suite.attrib["time"]) / 3600,
        int(suite.attrib["tests"]),
        int(suite.attrib["failures"]) + int(suite.attrib["errors"]),
    )
    for case in suite.iter("testcase"):
        for name, value in _properties(case):
            if name == "examples":
                module = case.attrib["classname"]
                record.examples[module] += int(value)
                record.properties[module] += 1
            elif name == "kill":
                record.kills.add(*ast.literal_eval(value))
    return record


def _properties(case: ET.Element) -> Iterator[tuple[str, str]]:
    for each in case.iter("property"):
        yield each.attrib["name"], each.attrib["value"]


def figures(records: dict[str, Record]) -> str:
    """Return the tables: the parts, the kills, and the drawn inputs."""
    tables = [_parts(records)]
    if "kills" in records:
        tables.append(records["kills"].kills.table())
    if "examples" in records:
        tables.append(_examples(records["examples"]))
    return "\n".join(tables)


def _parts(records: dict[str, Record]) -> str:
    rows = [[meaning, *_part(records.get(part))] for part, meaning in PARTS.items()]
    return format_table(["part", "day", "hours", "tests and rounds", "failed"], rows, align_right=True)


def _part(record: Record | None) -> list[str]:
    if record is None:
        return ["not run", "", "", ""]
    return [record.day, f"{record.hours:.1f}", f"{record.tests:,}", str(record.failed)]


def _examples(record: Record) -> str:
    rows = [
        [_subject(module), str(record.properties[module]), f"{passed:,}"] for module, passed in record.examples.items()
    ]
    rows.append(["all", str(record.properties.total()), f"{record.examples.total():,}"])
    return format_table(["what is drawn", "properties", "examples that passed"], rows, align_right=True)


def _subject(module: str) -> str:
    """Return the first sentence of a test module, which says what it draws."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text())) or module
    return text.splitlines()[0].rstrip(".")


def main() -> None:
    """Replace the figures of the page."""
    records = {part: read_record(RECORDS / f"{part}.xml") for part in PARTS if (RECORDS / f"{part}.xml").exists()}
    PAGE.write_text(replace_figures(PAGE.read_text(), figures(records)))


if __name__ == "__main__":
    main()
