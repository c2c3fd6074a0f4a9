"""gate lets a server start only when the database schema fits its code (Alembic).

For scripts and test suites::

    from gate import drift_of, fits

    assert fits(engine), drift_of(engine)

`gate.asgi` and `gate.wsgi` have the readiness endpoint, `gate.errors` what these functions raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gate.drift.application import Source
    from gate.drift.comparison import Drift


__version__ = "0.1.0"

__all__ = ["__version__", "async_drift_of", "async_fits", "drift_of", "fits"]


def drift_of(
    source: Source = None,
    *,
    config: str | None = None,
    section: str | None = None,
    models: object = None,
    target: str | None = None,
) -> Drift:
    """Compare the stamp of a database with the migration scripts, once; blocks until the database has answered.

    - `source`: a database URL, an SQLAlchemy `Engine` or `Connection`, or None for `DATABASE_URL` and the other
      variables that `gate check` reads. A transaction of the connection is neither ended nor aborted.
    - `config`: the Alembic configuration file, as for `alembic -c`; by default `ALEMBIC_CONFIG`, else `alembic.ini` or
      `pyproject.toml` in the working directory.
    - `section`: its section, as for `alembic -n`.
    - `models`: a `MetaData`, a declarative base, SQLModel, or a sequence of them: what the code needs. By default what
      `gate expect` has recorded, if it has.
    - `target`: the revision that must be there, in Alembic's syntax; by default `GATE_TARGET`, else `heads`.

    Raises `DatabaseUnavailable`, `BadScripts` or `BadSettings` of `gate.errors`; an asynchronous engine or connection
    is a `BadSettings`. `GATE_CONNECT_TIMEOUT` and `GATE_QUERY_TIMEOUT`, in seconds, limit the check of a URL; an engine
    or a connection has its own time-outs.

    For example, `drift_of(engine).verdict` is `"BEHIND"`, and `str(drift_of(engine))` is
    `"drift: db=0001 expected=0003"`.
    """
    from gate.drift.application import ApplicationInspector  # noqa: PLC0415 - the command line does not need it

    return ApplicationInspector(source, config, section, _flags(target), models=models).inspect().drift


async def async_drift_of(
    source: Source = None,
    *,
    config: str | None = None,
    section: str | None = None,
    models: object = None,
    target: str | None = None,
) -> Drift:
    """Do as `drift_of` does, without blocking the event loop.

    `source` may also be an SQLAlchemy `AsyncEngine` or `AsyncConnection`. Raises what `drift_of` raises.
    """
    from gate.drift.application import ApplicationInspector  # noqa: PLC0415 - the command line does not need it

    return (await ApplicationInspector(source, config, section, _flags(target), models=models).ainspect()).drift


def fits(
    source: Source = None,
    *,
    config: str | None = None,
    section: str | None = None,
    models: object = None,
    target: str | None = None,
) -> bool:
    """Return whether `gate check` would exit with 0: the verdict is CURRENT, DEFERRED, UNSTAMPED, UNKNOWN or AHEAD.

    The parameters and errors are those of `drift_of`. For example, in a test: `assert fits(engine), drift_of(engine)`.
    """
    return drift_of(source, config=config, section=section, models=models, target=target).fits


async def async_fits(
    source: Source = None,
    *,
    config: str | None = None,
    section: str | None = None,
    models: object = None,
    target: str | None = None,
) -> bool:
    """Do as `fits` does, without blocking the event loop; takes and raises what `async_drift_of` does."""
    return (await async_drift_of(source, config=config, section=section, models=models, target=target)).fits


def _flags(target: str | None) -> dict[str, str]:
    return {} if target is None else {"GATE_TARGET": target}
