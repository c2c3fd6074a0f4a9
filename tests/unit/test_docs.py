"""README.md and docs/ cannot fall behind the code: every table, log line, link and picture of them is held to it."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest

from docs import picture
from docs.tables import TABLES, written
from gate import errors
from gate.cli.serve import Metrics
from gate.drift.comparison import Drift, Verdict
from gate.drift.decision import decide
from gate.errors import GateError
from gate.migration.upgrade_request import TENANT_VARIABLE
from gate.readiness.answer import Readiness, fields
from gate.readiness.cache import VerdictCache
from gate.settings.arguments import COMMANDS
from gate.settings.settings import Decision, Policy
from gate.settings.variables import SETTINGS
from tests.nightly.reliability import figures
from tests.support.docs import ALL, PAGES, README, ROOT, blocks, replace_figures, sections, table, tables
from tests.support.programs import GATE_COMMAND, start
from tests.unit.test_layers import FOUNDATION, MAY_IMPORT

PACKAGE = ROOT / "gate"
MODULES = {
    "gate." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text()
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py" or path.parent == PACKAGE
}
"""Every module that holds anything -> its source."""

DOCUMENTS = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))

OTHERS = {"--build", "--check-heads", "--from-literal", "--init", "--profile", "--rm", "--url", "--wait"}
OTHERS |= {"--atomic", "--for", "--install", "--kube-version", "--rollback-on-failure", "--wait-for-jobs"}
"""Flags of Alembic, Docker, kubectl, Helm and MLflow that the pages name."""

NO_ERRORS = {"0", "1", "128+n"}
"""Exit codes that no error class has: passed, drift, a signal."""

POLICY_OF = {
    Verdict.UNKNOWN: "GATE_ON_UNKNOWN",
    Verdict.AHEAD: "GATE_ON_UNKNOWN",
    Verdict.UNSTAMPED: "GATE_ON_UNSTAMPED",
    Verdict.INCOMPLETE: "GATE_ON_INCOMPLETE",
}


def test_settings_are_those_of_the_code() -> None:
    told = [tuple(row) for row in table("variable", "flag", "default", "meaning")]
    assert told == [(f"`{s.variable}`", f"`{s.flag}`" if s.flag else "", s.default, s.meaning) for s in SETTINGS]


def test_every_variable_of_gate_that_a_document_names_is_a_setting() -> None:
    named = {name for path in DOCUMENTS for name in re.findall(r"\bGATE_[A-Z_]*[A-Z]\b", path.read_text())}
    set_by_gate = {TENANT_VARIABLE}
    assert {n for n in named if not n.startswith("GATE_TEST_")} <= {s.variable for s in SETTINGS} | set_by_gate


def test_commands_are_those_of_the_code() -> None:
    told = {re.findall(r"gate (\w+)", command)[0]: meaning for command, meaning in table("command", "what it does")}
    assert told == COMMANDS


@pytest.mark.parametrize("page", [README, PAGES["costs"], PAGES["reliability"]], ids=["README", "costs", "reliability"])
def test_new_figures_leave_the_rest_of_the_page(page: str) -> None:
    written_once = replace_figures(page, "the figures\n")
    assert "-->\n\nthe figures\n\n<!-- end" in written_once
    assert replace_figures(written_once, "the figures") == written_once
    around = re.compile("figures: .*-->|<!-- end")
    assert around.split(written_once)[0] == around.split(page)[0]
    assert around.split(written_once)[2] == around.split(page)[2]


def test_a_part_of_the_nightly_run_that_has_not_run_is_named() -> None:
    assert "| drawn inputs | not run |" in figures({})


@pytest.mark.parametrize("name", TABLES)
def test_the_generated_tables_are_as_docs_tables_writes_them(name: str) -> None:
    page = PAGES[TABLES[name][0].removesuffix(".md")]
    assert f"<!-- table: {name} -->" in page
    assert written(page, name) == page, "run: python docs/tables.py"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_the_help_is_told(command: str) -> None:
    usage = start([*GATE_COMMAND, command, "--help"], {}, ROOT).wait()
    assert usage.code == 0
    options = usage.out.split("options:")[1]
    flags = {flag for line in options.splitlines() for flag in re.findall(r"(?<![\w-])--?[a-z][\w-]*", line[:28])}
    assert flags >= {"--help", "--config", "-c"}
    assert {flag for flag in flags if not re.search(rf"`{flag}\b", ALL)} == set()


def test_no_flag_is_told_that_no_command_takes() -> None:
    helps = "".join(start([*GATE_COMMAND, command, "--help"], {}, ROOT).wait().out for command in COMMANDS)
    told = set(re.findall(r"`[^`]*?(--[a-z][\w-]*)", ALL))
    assert {flag for flag in told if not re.search(rf"{flag}\b", helps)} == OTHERS


def test_exit_codes_are_those_of_the_code() -> None:
    told = [row[0] for row in table("code")]
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GateError)]
    assert len(told) == len(set(told))
    assert set(told) == {str(each.exit_code) for each in classes} | NO_ERRORS


@pytest.mark.parametrize("text", [README, PAGES["verdicts"]], ids=["README", "verdicts"])
def test_every_verdict_is_explained(text: str) -> None:
    rows = table("verdict", "what gate found", text=text)
    assert [row[0] for row in rows] == [f"`{verdict}`" for verdict in Verdict]
    assert rows == table("verdict", "what gate found")


@pytest.mark.parametrize("verdict", Verdict)
def test_decisions_are_those_of_the_code(verdict: Verdict) -> None:
    rows = {row[0]: row[1:] for row in table("verdict", "`gate check`")}
    check, waiting, migrating = rows[f"`{verdict}`"]
    assert check == ("0" if Drift(verdict, (), ()).fits else "1")
    for cell, policy in ((waiting, Policy()), (migrating, Policy(migrating=True))):
        assert re.split(r"\W", cell)[0] == decide(verdict, policy)
        assert variables(cell) == ({POLICY_OF[verdict]} if depends_on_policy(verdict, policy) else set())


@pytest.mark.parametrize("migrating", [False, True])
def test_what_the_readme_says_of_decisions_is_the_tables(migrating: bool) -> None:  # noqa: FBT001 - parametrized
    section = " ".join(sections(README)["What gate finds"].split())
    sentences = section.split("By default gate starts")[1].split("[Verdicts]")[0]
    starting, upgrading = sentences.split("With `RUN_MIGRATIONS=1`")
    decided = {verdict: decide(verdict, Policy(migrating=migrating)) for verdict in Verdict}
    named = {Verdict(name) for name in re.findall(r"`([A-Z]+)`", upgrading if migrating else starting)}
    if migrating:
        assert named == {each for each, what in decided.items() if what in {Decision.UPGRADE, Decision.REFUSE}}
    else:
        assert named == {each for each, what in decided.items() if what is Decision.GO}


def variables(cell: str) -> set[str]:
    return set(re.findall(r"GATE_\w+", cell))


def depends_on_policy(verdict: Verdict, policy: Policy) -> bool:
    wishes = (Decision.GO, Decision.WAIT, Decision.REFUSE)
    found = {decide(verdict, Policy(policy.migrating, *wished)) for wished in product(wishes, wishes, wishes)}
    return len(found) > 1


def test_events_are_those_of_the_code() -> None:
    logged = {event for text in MODULES.values() for event in re.findall(r'"(gate\.[a-z_]+)"', text)}
    assert {row[0].strip("`") for row in table("event")} == logged - MODULES.keys()


def test_log_lines_that_are_shown_have_events_of_the_code() -> None:
    shown = {event for block in blocks(ALL, "|dockerfile|python") for event in re.findall(r"\bgate\.[a-z_]+", block)}
    assert {"gate.waiting", "gate.revision_applied", "gate.starting"} <= shown
    known = {row[0].strip("`") for row in table("event")}
    assert shown - {".".join(module.split(".")[:2]) for module in MODULES} <= known


def test_messages_of_shown_log_lines_are_those_of_the_code() -> None:
    templates = [*sentences_of_the_code()]
    shown = [sentence for message in shown_messages() for sentence in split(message)]
    assert len(shown) > 10
    assert [each for each in shown if not any(template.fullmatch(each) for template in templates)] == []


def shown_messages() -> Iterator[str]:
    """Of each log line in the pages the message, without what it leaves out."""
    for block in blocks(ALL):
        for line in re.split(r"\n(?=\d\d:\d\d|\.\.\.|\w+  +\.\.\.|\$)", block):
            text = " ".join(line.split())
            found = re.search(r'"message": "(.*?)(?:" \.\.\.|$)', text) or re.search(r"gate\.\w+: (.*)", text)
            if found:
                message = re.sub(r"drift: db=\S+ expected=\d+( missing=\S+)?\.", "", found[1])
                yield re.sub(r"needs: column \S+", "needs:", message).strip()


def split(message: str) -> list[str]:
    """The sentences and half sentences of a message; `...` stands for a value in one."""
    parts = re.split(r"(?<!\.\.\.)(?<=[.;:])\s+", message)
    return [part.removeprefix("... ") for part in parts if re.search("[a-z]", part)]


def sentences_of_the_code() -> Iterator[re.Pattern[str]]:
    """Each sentence of a string in the code as a pattern, in which a value stands for anything."""
    for text in MODULES.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.JoinedStr):
                pieces = (piece.value if isinstance(piece, ast.Constant) else "\0" for piece in node.values)
                template = "".join(map(str, pieces))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                template = node.value
                if re.fullmatch("[A-Z][a-z]+(ed|ing)", template):  # the verb in front of values
                    yield re.compile(f"{template} .*")
            else:
                continue
            for part in re.split(r"(?<=[.;:])\s+", template):
                if len(part.replace("\0", "")) > len("short"):
                    yield re.compile("(.*)".join(map(re.escape, part.split("\0"))) + "[.;]?")


def test_fields_of_the_readiness_answer_are_those_of_the_code() -> None:
    told = [name for names, _ in table("field of the answer") for name in re.findall(r"`(\w+)`", names)]
    assert told == list(fields(Readiness(Drift(Verdict.BEHIND, (), ()), age=0, away=0, migrating="somebody")))


def test_metrics_are_those_of_the_code() -> None:
    told = {re.findall(r"`(\w+)", metric)[0]: meaning for metric, meaning in table("metric of `gate serve`")}
    assert told == {each.name: each.documentation for each in Metrics({"": VerdictCache(ttl=1, timeout=1)}).collect()}


def test_every_way_to_deploy_is_told() -> None:
    rows = [row for page in ("kubernetes", "compose") for row in table("you have", "take", text=PAGES[page])]
    told = {re.findall(r"`(.+?)`", take)[0] for _, take, _ in rows}
    overlays = {f"k8s/overlays/{path.name}" for path in (ROOT / "k8s" / "overlays").iterdir()}
    assert told == overlays | {path.name for path in ROOT.glob("compose*.yaml")}


def test_the_line_for_bytecode_imports_modules_that_there_are() -> None:
    [line] = blocks(PAGES["costs"], "dockerfile")
    imported = re.findall(r"gate\.[\w.]+", line)
    assert len(imported) > 2
    assert [module for module in imported if find_spec(module) is None] == []


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(README.splitlines()) <= 140
    linked = {page.partition("#")[0] for page in re.findall(r"\]\(docs/([^)]+)\.md", README)}
    assert linked == PAGES.keys() - {"index"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        leads_to = (document.parent / path).resolve() if path else document
        if not leads_to.exists() or (anchor and anchor not in anchors(leads_to)):
            broken.append(link)
    assert broken == []


def anchors(path: Path) -> set[str]:
    """Those that GitHub and MyST give to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- docs/architecture.md and its picture

FOLDERS = sorted({module.split(".")[1] for module in MODULES if module.count(".") > 1})
SVG = ET.parse(ROOT / "docs" / "architecture.svg")
BOXES = [text for text in SVG.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "box"]
ARROWS = {(str(a.get("data-from")), str(a.get("data-to"))) for a in SVG.iter() if a.get("data-from")}
BOX_OF = {name: str(box.text) for box in BOXES for name in str(box.text).split()}
"""Folder or module at the top -> the box that it is in."""


@pytest.mark.parametrize("folder", ["", *FOLDERS])
def test_each_folder_has_a_section_that_lists_its_modules(folder: str) -> None:
    here = PACKAGE / folder
    files = [*here.rglob("*.py")] if folder else [*here.glob("*.py")]
    built = sorted(path.stem for path in files if path.name != "__init__.py" or not folder)
    text = sections(PAGES["architecture"])[f"gate/{folder}".rstrip("/")]
    assert sorted(row[0].strip("`") for row in tables("module", text)) == built


def test_the_architecture_page_has_no_folder_that_is_not_there() -> None:
    told = {heading for heading in sections(PAGES["architecture"]) if heading.startswith("gate/")}
    assert told == {f"gate/{folder}" for folder in FOLDERS}


def test_the_picture_is_as_docs_picture_draws_it() -> None:
    assert (ROOT / "docs" / "architecture.svg").read_text() == picture.drawn(), "run: python docs/picture.py"


def test_the_picture_shows_the_folders_of_the_package() -> None:
    entry_points = {"gate.__init__", "gate.__main__"}
    assert BOX_OF.keys() == {module.split(".")[1] for module in MODULES if module not in entry_points}


def test_every_import_follows_the_arrows_of_the_picture() -> None:
    astray = {edge for edge in imports() if edge[1] not in below(edge[0])}
    assert astray == set()


def test_every_arrow_of_the_picture_is_an_import_that_is_allowed_and_points_down() -> None:
    height = {str(box.text): float(box.get("y", 0)) for box in BOXES}
    assert imports() >= ARROWS
    foundation = {name for name, box in BOX_OF.items() if BOX_OF["errors"] == box}
    assert foundation == FOUNDATION
    named = {(begin, "foundation" if end == BOX_OF["errors"] else end) for begin, end in ARROWS}
    assert {(begin, end) for begin, end in named if end not in allowed(begin)} == set()
    assert [arrow for arrow in ARROWS if height[arrow[0]] >= height[arrow[1]]] == []


def test_the_flow_names_folders_of_the_picture() -> None:
    [flow] = [str(text.text) for text in SVG.iter() if text.get("class") == "flow"]
    told = re.sub(r"\([a-z]+\)", "", flow)
    assert set(re.findall(r"[a-z]+", told)) <= set(FOLDERS)


def allowed(layer: str) -> set[str]:
    """What the layers' own test lets this one import, at once or through others."""
    return MAY_IMPORT[layer].union(*(allowed(each) for each in MAY_IMPORT[layer]))


def below(box: str) -> set[str]:
    """The boxes that arrows lead to from this one, at once or through others."""
    direct = {end for begin, end in ARROWS if begin == box}
    return direct.union(*(below(end) for end in direct))


def imports() -> set[tuple[str, str]]:
    """Which box imports from which, however late, but for the package's own entry points."""
    found = {
        (BOX_OF.get(module.split(".")[1], ""), BOX_OF.get(name, ""))
        for module, text in MODULES.items()
        for name in imported_by(text)
    }
    return {(one, other) for one, other in found if one and other and one != other}


def imported_by(text: str) -> Iterator[str]:
    """The part behind `gate.` of each import."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ImportFrom(module="gate", names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module)) if module.startswith("gate."):
                yield module.split(".")[1]
            case ast.Import(names=names):
                yield from (alias.name.split(".")[1] for alias in names if alias.name.startswith("gate."))
