"""The page that a server shows: its model, for people. It asks the same routes as any program, and nobody else."""

from collections.abc import Awaitable, Callable
from importlib import resources

from fastapi import FastAPI, Response

FILES = {
    "/": ("index.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
    "/page/parts.js": ("parts.js", "text/javascript"),
    "/page/ask.js": ("ask.js", "text/javascript"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Each file by its route, and its kind."""

OWN = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
HEADERS = {
    "content-security-policy": f"{OWN}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
"""The page takes nothing from elsewhere, tells nobody anything, and is in nobody's frame."""


def add_page(app: FastAPI) -> None:
    """Serve the page and its files, to everybody: it holds no data."""
    folder = resources.files(__package__) / "assets"
    for path, (name, kind) in FILES.items():
        content = {200: {"description": f"The file {name}.", "content": {kind: {}}}}
        give = _giving((folder / name).read_bytes(), kind)
        app.add_api_route(path, give, name=name, response_class=Response, responses=content)


def _giving(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def give() -> Response:
        """A file of the page."""
        return Response(content, media_type=kind, headers=HEADERS)

    return give
