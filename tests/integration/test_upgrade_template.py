"""When the template of upgrade processes may be forked, and when it must not be."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.embedded_postgres import environment_without_settings
from gate import log
from gate.migration.template import Template
from gate.migration.upgrade_request import TemplateRequest, UpgradeRequest
from tests.support.projects import Project

SAFE = {
    "plain": "",
    "reads another variable": "import os\nNAME = os.environ.get('PATH')\n",
    "keeps nothing of the variable": "import os\nHAS = 'GATE_TENANT' in os.environ\nassert os.environ['GATE_TENANT']\n",
    "iterates over all variables": "import os\nNAMES = {name for name, value in os.environ.items() if value}\n",
    "cannot be imported": "raise RuntimeError('only within env.py')\n",
    "ends the process": "raise SystemExit(3)\n",
    "prints": "print('imported')\n",
    "ended thread": "import threading\nthread = threading.Thread(target=int)\nthread.start()\nthread.join()\n",
    "closed socket": "import socket\nsocket.create_connection(('127.0.0.1', PORT)).close()\n",
    "argv": "import sys\nassert sys.argv == ['alembic', 'upgrade', 'heads'], sys.argv\n",
    "standard input": "import sys\nassert sys.stdin.read() == ''\n",
}

DANGEROUS = {
    "thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n",
        "thread",
    ),
    "socket": ("import socket\nKEPT = socket.create_connection(('127.0.0.1', PORT))\n", "connection"),
    "event loop": ("import asyncio\nLOOP = asyncio.new_event_loop()\n", "event loop"),
    "name": ("import os\nTENANT = os.environ['GATE_TENANT']\n", "GATE_TENANT"),
    "text": ("import os\nOPTIONS = {'options': ['-csearch_path=' + os.environ['GATE_TENANT']]}\n", "GATE_TENANT"),
    "default": ("import os\ndef f(schema=os.getenv('GATE_TENANT')): pass\n", "GATE_TENANT"),
    "closure": ("import os\ndef f(name):\n    return lambda: name\nG = f(os.getenv('GATE_TENANT'))\n", "GATE_TENANT"),
    "metadata": (
        "import os, sqlalchemy as s\nM = s.MetaData(schema=s.quoted_name(os.environ['GATE_TENANT'], True))\n",
        "GATE_TENANT",
    ),
    "sudden end": ("import os\nos._exit(0)\n", "ended"),
}


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The log."""
    written: list[str] = []
    log.configure("json")
    log.write_with(lambda line: written.append(line.decode()))
    yield written
    log.write_with(log.write_to_stderr)


def template_with(project: Project, text: str) -> Template:
    """Start a template that imports a module with this text, and wait until it can be forked or is gone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        (project.folder / "shop.py").write_text(f"PORT = {server.getsockname()[1]}\n{text}")
        request = TemplateRequest(
            str(project.folder / "alembic.ini"), "", "alembic", ["heads"], ["shop"], [str(project.folder), *sys.path]
        )
        template = Template(request, {**environment_without_settings(), "PYTHONPATH": os.pathsep.join(sys.path)})
        assert template.poll(60)
    return template


@pytest.mark.parametrize("kind", SAFE)
def test_a_template_can_be_forked(project: Project, lines: list[str], kind: str) -> None:
    template = template_with(project, SAFE[kind])
    assert (template.is_ready, template.is_gone, lines) == (True, False, [])
    template.close()
    assert template.is_gone


@pytest.mark.parametrize("kind", DANGEROUS)
def test_a_template_that_shares_too_much_is_not_forked(project: Project, lines: list[str], kind: str) -> None:
    text, reason = DANGEROUS[kind]
    template = template_with(project, text)
    assert (template.is_ready, template.is_gone) == (False, True)
    assert reason in lines[0]
    assert "gate imports the modules that env.py imports for each schema anew" in lines[0]


def test_a_template_that_has_ended_is_not_forked(project: Project, lines: list[str]) -> None:
    template = template_with(project, "")
    os.kill(template.pid, 9)
    request = UpgradeRequest("", "", "", [], "", "", "", "")
    assert template.fork(request, {}, ()) is None
    assert (template.is_gone, len(lines)) == (True, 1)


def test_the_memory_of_a_template_has_no_url_in_its_arguments(project: Project, lines: list[str]) -> None:
    template = template_with(project, "")
    assert Path(f"/proc/{template.pid}/cmdline").read_bytes().count(b"://") == 0
    template.close()
