"""Refusals of the service, as its schema describes them."""

from typing import Any

from fastapi import Depends
from fastapi.security import HTTPBearer

from cytolora.classifier.serve.answers import Problem

RETRY_SECONDS = "1"
"""Of a Retry-After header."""


def problems(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """Describes refusals by status: ``_404="why"``."""
    return {int(name[1:]): {"model": Problem, "description": why} for name, why in descriptions.items()}


REFUSALS = problems(
    _400="No valid HTTP request.",
    _403="A page of another site asks, and no token is asked for.",
    _408="The request did not come whole in time.",
    _413="The request is too large.",
    _421="Meant for another host.",
    _503="Stopping, or too many connections; ask again after Retry-After seconds.",
)
"""Of every path: the guard and the limits of connections know no paths."""


def in_json(refusals: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Says so of a path whose own answers are none; FastAPI would take its media type for refusals too."""
    schema = {"application/json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {code: {"description": one["description"], "content": schema} for code, one in refusals.items()}


NO_TOKEN = "No token, or a wrong one."


def secured(token: str | None) -> list[Any]:
    """Says in the schema that a path needs the token; Guard looks at it."""
    return [] if token is None else [Depends(HTTPBearer(auto_error=False))]
