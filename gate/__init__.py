"""gate lets a server start only when its database schema fits the code (Alembic).

For scripts and test suites::

    from gate import drift_of, fits

    assert fits(engine), drift_of(engine)

Both take a URL, an SQLAlchemy `Engine` or `Connection`, or nothing (DATABASE_URL); `async_drift_of` and `async_fits`
also an `AsyncEngine` or `AsyncConnection`. A caller's transaction is never poisoned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gate.drift.application import Source
    from gate.drift.comparison import Drift


__version__ = "0.1.0"

__all__ = ["__version__", "async_drift_of", "async_fits", "drift_of", "fits"]


def drift_of(source: Source = None, *, config: str | None = None, section: str | None = None) -> Drift:
    """Look once; raises `DatabaseUnavailable`, `BadScripts` or `BadSettings` from `gate.errors`."""
    from gate.drift.application import ApplicationInspector  # noqa: PLC0415 - the command line does not need it

    return ApplicationInspector(source, config, section).inspect().drift


async def async_drift_of(source: Source = None, *, config: str | None = None, section: str | None = None) -> Drift:
    """The same without blocking the event loop."""
    from gate.drift.application import ApplicationInspector  # noqa: PLC0415 - likewise

    return (await ApplicationInspector(source, config, section).ainspect()).drift


def fits(source: Source = None, *, config: str | None = None, section: str | None = None) -> bool:
    """Whether `gate check` would exit 0."""
    return drift_of(source, config=config, section=section).fits


async def async_fits(source: Source = None, *, config: str | None = None, section: str | None = None) -> bool:
    """The same without blocking the event loop."""
    return (await async_drift_of(source, config=config, section=section)).fits
