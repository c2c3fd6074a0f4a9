"""The options -c and -n -> the histories that a command guards."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gate.errors import BadUsage
from gate.settings.arguments import History
from gate.text import printable


def split_histories(config: Sequence[str], sections: Sequence[str]) -> tuple[History, ...]:
    """Return one history for each section, or for each file, in their order.

    `config`: the files of `-c`; `sections`: those of `-n`. One ini file and one pyproject.toml are one configuration,
    as in Alembic. Raises `BadUsage` where it is not clear which files and sections belong together, or if one is named
    twice.
    """
    _reject_repeated("-c", config, [os.path.normpath(each) for each in config])
    _reject_repeated("-n", sections, [each or "alembic" for each in sections])
    toml = [path for path in config if os.path.basename(path) == "pyproject.toml"]
    ini = [path for path in config if path not in toml]
    if max(len(ini), len(toml)) > 1:
        _reject_mixed(ini, toml, sections)
        return tuple(History((path,), None, path) for path in config)
    if len(sections) > 1:
        return tuple(History(tuple(config), each, each or "alembic") for each in sections)
    return (History(tuple(config), sections[0] if sections else None),)


def _reject_repeated(option: str, words: Sequence[str], names: Sequence[str]) -> None:
    repeated = [word for n, word in enumerate(words) if names[n] in names[:n]]
    if repeated:
        raise BadUsage(f"{option} names {printable(repeated[0]) or 'alembic'} twice; name each history once.")


def _reject_mixed(ini: Sequence[str], toml: Sequence[str], sections: Sequence[str]) -> None:
    """Raise if there are several files, and it is not clear what else belongs to which of them."""
    several, beside = (ini, toml) if len(ini) > 1 else (toml, ini)
    if not sections and not beside:
        return
    other = f"-n {sections[0]}" if sections else f"-c {beside[0]}"
    first, second = several[:2]
    words = [f"-n {sections[0]}", f"-n {sections[-1]}"] if sections else [other, other]
    raise BadUsage(
        f"-c names {len(several)} configurations ({', '.join(map(printable, several))}), and it is not clear to which "
        f"of them {printable(other)} belongs. Give each history a gate of its own: gate run -c {printable(first)} "
        f"{printable(words[0])} -- gate run -c {printable(second)} {printable(words[1])} -- CMD."
    )
