"""The page at `/` and the API's description at `/docs`: files of this package, nothing from elsewhere."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from fastapi import FastAPI, Request, Response

_PAGES = {"/": "index.html", "/docs": "docs.html"}
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_SECURITY = {
    # Titles are whatever the catalogue holds: should one ever be taken for markup, nothing in it would run.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    headers: dict[str, str]

    @classmethod
    def read(cls, name: str) -> "_File":
        content = files("service").joinpath("page", name).read_bytes()
        headers = {
            "Content-Type": _TYPES[name.rpartition(".")[2]],
            "ETag": f'"{sha256(content).hexdigest()[:32]}"',
            "Cache-Control": "public, no-cache",  # kept, but asked about: a new release is seen at once
            **_SECURITY,
        }
        return cls(content, headers)

    def answer(self, request: Request) -> Response:
        known = {
            tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")
        }
        if self.headers["ETag"] in known:
            return Response(status_code=304, headers=self.headers)
        return Response(self.content, headers=self.headers)


def page_files() -> dict[str, str]:
    """Return the file behind each path; none of them holds anything that is not public."""
    assets = [entry.name for entry in files("service").joinpath("page").iterdir()]
    return _PAGES | {f"/page/{name}": name for name in sorted(assets) if not name.endswith(".html")}


def add_page(app: FastAPI) -> None:
    """Add the routes to an application."""
    for path, name in page_files().items():
        _add_file(app, path, _File.read(name))


def _add_file(app: FastAPI, path: str, file: _File) -> None:
    @app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False, response_class=Response)
    async def read(request: Request) -> Response:
        return file.answer(request)
