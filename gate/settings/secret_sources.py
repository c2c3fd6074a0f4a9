"""Passwords that no setting of gate holds, but libpq, env.py or an upgrade command reads: files, variables, arguments.

Read only when there is foreign text to redact, which may quote them. Whatever cannot be read has no password to show.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from gate.files import open_regular_file
from gate.redaction import spellings

MAX_FILE_SIZE = 1 << 20
"""Bytes of a file that are read."""

TEMPLATE = "driver://user:pass@"
"""The beginning of the URL that `alembic init` writes."""

FLAGS = frozenset("1 true yes on 0 false no off".split())
"""Values of a variable that says something about a password, such as ALLOW_EMPTY_PASSWORD."""

_PASSWORD_NAME = re.compile(r"(?i)(?:password|passwd|passphrase|_pwd|_pass)\Z")
_PASSWORD_FILE_NAME = re.compile(r"(?i)(?:password|passwd|_pwd)_file\Z")
_NAMING_NAME = re.compile(r"(?i)(?:user|username|logname|name|host|db|database|schema|service|role|app|env)\Z")
"""A variable that names a user, a database, ...; its value is no secret, although it may be the password, too."""

_PASSFILE_FIELD = re.compile(r"((?:[^\\:]|\\.)*)(?::|\Z)")
_ASSIGNMENT = re.compile(r"(?i)-{0,2}[\w.-]*(?:password|passwd|passphrase|pwd|pass)=(.+)", re.DOTALL)
_OPTION = re.compile(r"(?i)--?[\w-]*(?:password|passwd|passphrase|pwd|pass)\Z")
_SHORT_OPTION = re.compile(r"-p(.+)", re.DOTALL)
_SHORT_OPTION_PROGRAMS = ("mysql", "mariadb", "mycli", "sshpass")
"""Programs whose `-pSECRET` is a password; psql's -p is a port."""


def secrets_around(configurations: Iterable[str] = (), urls: Iterable[Mapping[str, str]] = ()) -> frozenset[str]:
    """Return the passwords in libpq's files, the environment, the arguments and the Alembic configuration.

    `configurations`: paths of ini and TOML files; `urls`: libpq's parameters of each URL, which may name files.
    """
    found: set[str] = set()
    for text in map(_read, {*configurations}):
        found |= secrets_in_urls(text) | secrets_in_urls(text.replace("%%", "%"))
    found |= _in_environment(os.environ) | secrets_in_command(sys.argv[1:])
    return frozenset(found) | _in_libpq_files([*urls])


def secrets_in_urls(text: str) -> frozenset[str]:
    """Return the passwords of all URLs in a text; one that is also the user, host or database is not a secret."""
    found: set[str] = set()
    for line in text.splitlines():
        if TEMPLATE in line:
            continue
        for pattern in (r"://([^:/?#\s@]*):([^@\s]+)@([^\s'\"]*)", r"://([^:/?#\s@]*):(.+)@([^\s'\"]*)"):
            for user, password, place in re.findall(pattern, line):
                found |= spellings(password) - {user, *re.split(r"[:/?,]", place)}
    return frozenset(found)


def secrets_in_command(words: Sequence[str]) -> frozenset[str]:
    """Return the passwords in a command: `--password=X`, `--password X`, `mysql -pX`, `PGPASSWORD=X`, URLs.

    A word with spaces is a command of its own (`sh -c "..."`) or a connection string, so its words count, too.
    """
    found: set[str] = set()
    each = [part for word in words for part in dict.fromkeys([word, *_inner_words(word)])]
    takes_short_option = False
    for word, following in zip(each, [*each[1:], ""], strict=False):
        takes_short_option |= os.path.basename(word).startswith(_SHORT_OPTION_PROGRAMS)
        found |= secrets_in_urls(word)
        if assignment := _ASSIGNMENT.fullmatch(word):
            found |= spellings(assignment[1]) | spellings(assignment[1].strip("'\""))
        elif _OPTION.match(word) and not following.startswith("-"):
            found |= spellings(following)
        elif takes_short_option and (option := _SHORT_OPTION.fullmatch(word)):
            found |= spellings(option[1])
    return frozenset(found)


def _inner_words(word: str) -> list[str]:
    if not re.search(r"\s", word):
        return []
    import shlex  # noqa: PLC0415 - few commands contain another

    with suppress(ValueError):
        return shlex.split(word)
    return word.split()


def _in_environment(environment: Mapping[str, str]) -> frozenset[str]:
    found: set[str] = set()
    names = {value for name, value in environment.items() if _NAMING_NAME.search(name)}
    for name, value in environment.items():
        if "://" in value:
            found |= secrets_in_urls(value)
        elif _PASSWORD_FILE_NAME.search(name):
            found |= spellings(_read(value).strip())
        elif _PASSWORD_NAME.search(name) and value.lower() not in FLAGS and value not in names:
            found |= spellings(value)
    return frozenset(found)


def _in_libpq_files(urls: Sequence[Mapping[str, str]]) -> frozenset[str]:
    """Read every file in which libpq looks for a password (PostgreSQL documentation, 32.16 and 32.17)."""
    home = os.path.expanduser("~")
    given = [os.environ, *urls]
    services = [path for each in given for key in ("PGSERVICEFILE", "servicefile") if (path := each.get(key))]
    services += [os.path.join(home, ".pg_service.conf")]
    services += [os.path.join(os.environ.get("PGSYSCONFDIR") or "/etc/postgresql-common", "pg_service.conf")]
    parameters = [each for path in services for each in _service_parameters(_read(path))]
    passfiles = [path for each in given for key in ("PGPASSFILE", "passfile") if (path := each.get(key))]
    passfiles += [value for key, value in parameters if key == "passfile"] + [os.path.join(home, ".pgpass")]
    found = {value for key, value in parameters if "password" in key}
    found |= {each for path in passfiles for each in _passfile_passwords(_read(path))}
    return frozenset(spelling for each in found for spelling in spellings(each))


def _service_parameters(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            yield key.strip().lower(), value.strip()


def _passfile_passwords(text: str) -> Iterator[str]:
    """Yield the fifth field of each line, as it is written and without its backslashes."""
    for line in text.splitlines():
        fields = _PASSFILE_FIELD.findall(line)
        if not line.startswith("#") and len(fields) > 4:  # noqa: PLR2004 - host:port:database:user:password
            password = line.split(":", 4)[-1] if "\\" not in line else fields[4]
            yield from {password, fields[4], re.sub(r"\\(.)", r"\1", fields[4])}


def _read(path: str) -> str:
    """Return the text of a regular file, "" if there is none that can be read."""
    with suppress(OSError, ValueError), open(open_regular_file(path), "rb") as file:
        # None: reading would block, as with some files of procfs, although they are called regular.
        return (file.read(MAX_FILE_SIZE) or b"").decode("utf-8", "surrogateescape")
    return ""
