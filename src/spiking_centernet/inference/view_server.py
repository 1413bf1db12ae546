"""The viewer's server: one page on the loopback interface, for whoever knows its address."""

import logging
import secrets
import socket
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from spiking_centernet.errors import ConfigError, SpikingCenterNetError, need
from spiking_centernet.inference.clip import Clip, Frame
from spiking_centernet.visualize import viewer

HOST = "127.0.0.1"

KEPT_FRAMES = 256
"""Computed frames stay in memory so that scrubbing back does not compute them again."""

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Feed(Protocol):
    """What a live view follows."""

    def describe(self) -> dict[str, Any]:
        """Return what the page should know before any frame."""
        ...

    def subscribe(self) -> Any:
        """Return an asynchronous iterator of events for one page: names and texts."""
        ...


class Frames:
    """The frames of a clip, computed one at a time, the last ``KEPT_FRAMES`` kept.

    Args:
        clip: what to show.
    """

    def __init__(self, clip: Clip):
        self._clip = clip
        self._kept: OrderedDict[int, Frame] = OrderedDict()
        self._lock = threading.Lock()
        self.description = clip.describe()

    def __getitem__(self, index: int) -> Frame:
        with self._lock:
            if index not in self._kept:
                self._kept[index] = self._clip.frame(index)
            self._kept.move_to_end(index)
            while len(self._kept) > KEPT_FRAMES:
                self._kept.popitem(last=False)
            return self._kept[index]


def make_app(shown: Clip | Feed, *, token: str, port: int) -> Any:
    """Return the application (ASGI) that serves a clip or a live feed under ``/TOKEN/``.

    It answers only requests with the token in the path, addressed to the loopback interface by name or number (a page
    elsewhere whose name was rebound to this machine carries its own), and sent by no other site.

    Args:
        shown: what to serve.
        token: what the path must begin with.
        port: that the server listens on.

    Raises:
        MissingPackageError: starlette is not installed.
    """
    need("starlette", "the viewer", "view")
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    policy = f"{viewer.policy(served=True)}; frame-ancestors 'none'"
    frames = Frames(shown) if isinstance(shown, Clip) else None
    description = frames.description if frames is not None else shown.describe()

    def page(request: Request) -> Response:
        return HTMLResponse(viewer.render(description), headers={"Content-Security-Policy": policy})

    def frame(request: Request) -> Response:
        return _answer(lambda: JSONResponse(frames[request.path_params["index"]].values), PlainTextResponse)  # pyright: ignore

    def spikes(request: Request) -> Response:
        index, model, layer = (request.path_params[name] for name in ("index", "model", "layer"))
        try:
            name = description["models"][model]["layers"][layer]["name"]
        except IndexError:
            return PlainTextResponse("there is no such layer", 404)
        return _answer(lambda: PlainTextResponse(frames[index].spikes[model][name]), PlainTextResponse)  # pyright: ignore

    async def live(request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            async for name, text in shown.subscribe():  # pyright: ignore
                yield f"event: {name}\ndata: {text}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    routes = [Route(f"/{token}/", page)]
    if frames is not None:
        routes.append(Route(f"/{token}/frames/{{index:int}}", frame))
        routes.append(Route(f"/{token}/frames/{{index:int}}/spikes/{{model:int}}/{{layer:int}}", spikes))
    else:
        routes.append(Route(f"/{token}/live", live))
    return _Guard(Starlette(routes=routes), token=token, port=port)


def _answer(make: Callable[[], Any], refuse: Callable[[str, int], Any]) -> Any:
    try:
        return make()
    except SpikingCenterNetError as error:
        return refuse(str(error), 404)


class _Guard:
    """Refuses what does not come from the page itself, and adds ``HEADERS``."""

    def __init__(self, app: Any, *, token: str, port: int):
        self._app, self._token = app, token
        names = ("127.0.0.1", "localhost", "[::1]")
        self._hosts = {f"{name}:{port}" for name in names}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        if refusal := self._refusal(scope):
            from starlette.responses import PlainTextResponse

            status, text = refusal
            await PlainTextResponse(text, status)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Any) -> tuple[int, str] | None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host = headers.get("host", [])
        if len(host) != 1 or host[0].lower() not in self._hosts:
            return 421, "this server answers on the loopback interface alone"
        if any(origin not in self._origins for origin in headers.get("origin", [])):
            return 403, "another site may not ask"
        if any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
            return 403, "another site may not ask"
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "only GET is answered"
        first = scope["path"].lstrip("/").split("/")[0]
        if not secrets.compare_digest(first.encode(), self._token.encode()):
            return 403, "the token in the address is missing or wrong; open the address that scn view printed"
        return None


class ViewServer:
    """A server on a free port of the loopback interface.

    Args:
        shown: a clip, or a live feed.
        port: to listen on; 0 takes a free one.

    Attributes:
        address: of the page, with its token.

    Raises:
        MissingPackageError: starlette or uvicorn is not installed.
        ConfigError: the port is taken.
    """

    def __init__(self, shown: Clip | Feed, *, port: int = 0):
        uvicorn = need("uvicorn", "the viewer", "view")
        token = secrets.token_urlsafe(24)
        self._socket = socket.socket()
        try:
            self._socket.bind((HOST, port))
            self._socket.listen()
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"cannot listen on port {port} ({error.strerror}); choose another --port") from error
        port = self._socket.getsockname()[1]
        self.address = f"http://{HOST}:{port}/{token}/"
        app = make_app(shown, token=token, port=port)
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none",
            proxy_headers=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(settings)

    def run(self) -> None:
        """Serve until it is stopped or interrupted."""
        logger = logging.getLogger("uvicorn.error")

        def is_worth_it(_: logging.LogRecord) -> bool:
            # Pages that still wait for a frame when the server ends are no fault.
            return not self._server.should_exit

        logger.addFilter(is_worth_it)
        try:
            self._server.run(sockets=[self._socket])
        finally:
            logger.removeFilter(is_worth_it)
            self._socket.close()

    def stop(self) -> None:
        """Let :meth:`run` return, from another thread."""
        self._server.should_exit = True
