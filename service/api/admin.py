"""`/admin`: which versions are served. Every route needs the admin key."""

from typing import Annotated

from fastapi import Depends, FastAPI, Path, Request, Response

from recjpq.errors import ArtifactError
from service.api.auth import require_admin
from service.api.body import read_body
from service.api.openapi import body_of, problems
from service.api.schemas.admin import ChallengerRequest, ModelsResponse
from service.errors import LocationUnavailableError
from service.lifecycle.versions import VERSION_PATTERN
from service.serving import Serving

VersionPath = Annotated[str, Path(pattern=VERSION_PATTERN, examples=["v2"])]


def add_admin(app: FastAPI, serving: Serving) -> None:
    """Add the routes to an application."""
    settings = serving.settings
    admin = Depends(require_admin)

    @app.get("/admin/models", tags=["admin"], dependencies=[admin], responses=problems(401, 403, 503))
    async def models() -> ModelsResponse:
        """Say which versions are served, and which there are."""
        return await _answer(serving)

    @app.post(
        "/admin/models/{version}/activate",
        tags=["admin"],
        dependencies=[admin],
        responses=problems(401, 403, 404, 409, 422, 503),
    )
    async def activate(version: VersionPath) -> ModelsResponse:
        """Load a version, verify it and serve it; answers once it is served. If it fails nothing changes."""
        await serving.models.activate(version)
        return await _answer(serving)

    @app.post(
        "/admin/rollback",
        tags=["admin"],
        dependencies=[admin],
        responses=problems(401, 403, 404, 409, 422, 503),
    )
    async def rollback() -> ModelsResponse:
        """Serve the previous version again; repeated, it brings back the later one."""
        await serving.models.roll_back()
        return await _answer(serving)

    @app.put(
        "/admin/challenger",
        tags=["admin"],
        dependencies=[admin],
        openapi_extra=body_of(ChallengerRequest),
        responses=problems(400, 401, 403, 404, 409, 413, 422, 503),
    )
    async def challenge(request: Request) -> ModelsResponse:
        """Let another version serve a share of the users, each always by the same one."""
        body = await read_body(request, ChallengerRequest, settings.max_body_bytes)
        await serving.models.challenge(body.version, body.share)
        return await _answer(serving)

    @app.delete(
        "/admin/challenger",
        tags=["admin"],
        dependencies=[admin],
        status_code=204,
        responses=problems(401, 403, 409, 503),
    )
    async def end_challenge() -> Response:
        """Let the champion serve everybody; harmless without a challenger."""
        await serving.models.end_challenge()
        return Response(status_code=204)


async def _answer(serving: Serving) -> ModelsResponse:
    try:
        versions = await serving.models.known()
    except (LocationUnavailableError, ArtifactError):
        versions = None  # what is served is worth telling all the same
    return ModelsResponse.of(serving.models.state, serving.models.lineup, versions)
