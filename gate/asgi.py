"""The readiness endpoint for any ASGI application; needs no framework.

With FastAPI::

    from gate.asgi import Ready

    ready = Ready(engine)
    app = FastAPI(lifespan=ready.lifespan)
    app.router.routes.append(Route("/health/ready", ready))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gate.readiness.answer import (
    READINESS_PATH,
    Application,
    Readiness,
    Receive,
    Scope,
    Send,
    accept_header,
    send_answer,
)
from gate.readiness.endpoint import ReadinessEndpoint


class Ready(ReadinessEndpoint):
    """An ASGI application that answers 200 if the schema fits, else 503 with `drift: db=… expected=…`.

    Its parameters are those of `ReadinessEndpoint`: the database, the Alembic configuration, and time-outs in seconds.

    An instance is the endpoint itself: mount it on a route of the framework, or put it in front of the application with
    `in_front_of`.
    """

    async def refresh(self) -> Readiness:
        """Return the verdict, after a check if one is due. Waits for it for at most 3 seconds, then 0.5."""
        if self.inspector.is_async:
            readiness = await self.cache.refresh_async(self.inspector.ainspect)
        else:
            readiness = await self.cache.refresh_in_thread(self.inspector.inspect)
        self.report_failed_check()
        return readiness

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Answer one request, on any path."""
        if scope["type"] != "http":
            return
        try:
            answer = self.answer(await self.refresh(), scope["method"], accept_header(scope))
        except Exception as error:  # noqa: BLE001 - a bug of gate never reaches the application
            answer = self.answer_bug(error)
        await send_answer(send, answer)

    def in_front_of(self, application: Application, path: str = READINESS_PATH) -> Application:
        """Return an ASGI application that answers `path` itself and passes all other requests on.

        For frameworks without such routes: `app = ready.in_front_of(app)`.
        """

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            is_own = scope["type"] == "http" and scope["path"] == path
            await (self if is_own else application)(scope, receive, send)

        return wrapped

    async def startup(self) -> None:
        """Check once and log CRITICAL on drift. Raises nothing, and takes at most `startup_timeout` seconds."""
        try:
            inspection = await asyncio.wait_for(self.inspector.ainspect(detach=True), self.startup_timeout)
            self.record_startup(inspection)
        except Exception as error:  # noqa: BLE001 - the application starts, whatever the check raises
            self.record_startup_failure(error)

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Call `startup` when the application starts, as the `lifespan` of FastAPI and Starlette.

        An application with a lifespan of its own awaits `startup` there.
        """
        await self.startup()
        yield
