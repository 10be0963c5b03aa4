"""Errors of a service as JSON: requests that are no valid ones, and faults of the program."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from cytolora.classifier.serve.guard import App, Receive, Scope, Send, answer_fault


async def invalid_request(_: Request, error: Exception) -> Response:
    """Says what is wrong with a request without sending it back: it may be long, or no text that can be sent."""
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": [{key: one[key] for key in ("type", "loc", "msg")} for one in error.errors()]}, 422)


class Faults:
    """Answers for a fault of the program in the form of every other refusal; its reason goes to the server's log."""

    def __init__(self, app: App) -> None:
        """Takes what is inside."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, as ASGI has it."""
        is_begun = False

        async def send_noted(message: Any) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception:
            if scope["type"] == "http" and not is_begun:
                await answer_fault(send)
            raise
