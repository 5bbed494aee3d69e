"""``Router``: which handler takes a request, by its path."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import unquote

from .._http import HeadersLike, Request, Response
from .._negotiate import Origins, SubprotocolChoice, shown, wants_websocket
from ._answers import Accept, then
from ._settings import ConnectionOptions

__all__ = ["Route", "Router", "routed"]

#: An absolute-form request target up to its path.
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")


class Route:
    """What is at a path: a handler for WebSockets, a view for plain HTTP requests, or both.

    Args:
        path: a pattern as in werkzeug's rules: ``"/chat/<room>"``, ``"/user/<int:number>"``.
        handler: takes the WebSockets: a handler, which gets the path's parameters as keyword arguments, or an
            ``Application``. Both find them in ``ws.path_params``.
        view: answers plain HTTP requests: ``f(request, **params)``, which returns a `Response`. May be a coroutine
            function if handlers are.
        methods: of the plain HTTP requests; HEAD goes with GET.
        on_request: is asked before a WebSocket is accepted, as in ``serve``, but ``f(request, **params)``. An
            Application's own ``on_request`` is asked after it.
        headers, options, origins, subprotocols, require_subprotocol: see `Accept`. What is not given is as in
            ``serve``.

    Raises:
        LocalProtocolError, TypeError, ValueError: an argument is wrong.
    """

    __slots__ = ("accept", "methods", "on_request", "path", "view")

    def __init__(
        self,
        path: str,
        handler: Any = None,
        *,
        view: Callable[..., Any] | None = None,
        methods: Sequence[str] = ("GET",),
        on_request: Callable[..., Any] | None = None,
        headers: HeadersLike = (),
        options: ConnectionOptions | None = None,
        origins: Origins | None = None,
        subprotocols: SubprotocolChoice | None = None,
        require_subprotocol: bool | None = None,
    ) -> None:
        if not str(path).startswith("/"):
            raise ValueError(f"a path begins with '/', not {path!r}")
        if handler is None and view is None:
            raise TypeError(f"there is nothing at {path!r}: it needs a handler, a view or both")
        if isinstance(methods, str) or not methods:
            raise TypeError(f"methods is a sequence of names such as ['GET', 'POST'], not {methods!r}")
        for name, value in (("view", view), ("on_request", on_request)):
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be a function, not {value!r}")
        self.path = path
        self.view = view
        self.methods = tuple(methods)
        self.on_request = on_request
        self.accept: Accept | None = None
        if handler is not None:
            self.accept = Accept(
                headers,
                handler=handler,
                options=options,
                origins=origins,
                subprotocols=subprotocols,
                require_subprotocol=require_subprotocol,
            )

    def __repr__(self) -> str:
        return f"<Route {self.path}>"


class Router:
    """Finds the handler of a connection; goes to ``serve`` in the place of a handler.

    Args:
        routes: what there is. A list of `Route`; or a map of werkzeug's rules whose endpoints are handlers,
            Applications or `Accept`; or ``f(request)`` that returns an `Accept` with a handler, a `Response`, or None
            for 404. It may be a coroutine function if handlers are. Only the last of these does without werkzeug.
        map_options: with a list of routes: for werkzeug's ``Map``, such as ``converters``.

    Raises:
        ImportError: werkzeug is not installed.
        TypeError, ValueError: a route is wrong.
    """

    __slots__ = ("_exceptions", "_function", "_map", "_routes", "_routing")

    def __init__(self, routes: Any, **map_options: Any) -> None:
        self._function: Callable[[Request], Any] | None = None
        self._routes: dict[Any, Route] = {}
        self._map: Any = None
        is_map = hasattr(routes, "iter_rules") and hasattr(routes, "bind")
        if map_options and (is_map or callable(routes)):
            raise TypeError(f"{next(iter(map_options))} is only for a list of routes")
        if callable(routes):
            self._function = routes
            return
        self._routing, self._exceptions = _werkzeug()
        if is_map:
            self._take_map(routes)
        else:
            self._make_map(list(routes), map_options)

    def _make_map(self, routes: list[Route], options: dict[str, Any]) -> None:
        rules = []
        for route in routes:
            if not isinstance(route, Route):
                raise TypeError(f"a route is a Route, not {route!r}")
            self._routes[route] = route
            if route.accept is not None:
                # Browsers do not follow redirects with a WebSocket: with a slash at the end or without, it is there.
                rules.append(
                    self._routing.Rule(
                        route.path, endpoint=route, websocket=True, strict_slashes=False, merge_slashes=False
                    )
                )
            if route.view is not None:
                rules.append(self._routing.Rule(route.path, endpoint=route, methods=route.methods))
        self._map = self._routing.Map(rules, **options)

    def _take_map(self, url_map: Any) -> None:
        for rule in url_map.iter_rules():
            rule.websocket = True
            endpoint = rule.endpoint
            route = Route(rule.rule, endpoint.handler if isinstance(endpoint, Accept) else endpoint)
            if isinstance(endpoint, Accept):
                route.accept = endpoint
            self._routes[endpoint] = route
        self._map = url_map

    @property
    def handlers(self) -> Iterable[Any]:
        """All handlers, as far as they are known before there is a request."""
        return [route.accept.handler for route in self._routes.values() if route.accept is not None]

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """What is asked besides, as far as it is known before there is a request."""
        found = [function for route in self._routes.values() for function in (route.view, route.on_request)]
        return [function for function in (self._function, *found) if function is not None]

    def answer(self, request: Request) -> Any:
        """Return what a request is to be answered with: an `Accept`, a `Response`, None for 426, or what gives one."""
        if self._function is not None:
            return then(self._function(request), lambda said: _not_found(request) if said is None else said)
        is_websocket = wants_websocket(request)
        found = self._find(request, is_websocket)
        if not isinstance(found, tuple):
            return found
        route, params = found
        if not is_websocket:
            assert route.view is not None
            return then(route.view(request, **params), _view_checker(route))
        accept = route.accept
        assert accept is not None
        if params:
            accept = Accept(params=params).with_defaults(accept)
        hooks: list[Callable[[], Any]] = []
        if route.on_request is not None:
            hooks.append(functools.partial(route.on_request, request, **params))
        # An Application has one of its own, which a component around it may need.
        own = getattr(accept.handler, "on_request", None)
        if own is not None:
            hooks.append(functools.partial(own, request))
        return _ask(hooks, accept)

    def _find(self, request: Request, is_websocket: bool) -> tuple[Route, dict[str, Any]] | Response | None:
        routing, exceptions = self._routing, self._exceptions
        raw_path, _, query = _ABSOLUTE.sub("", request.target, count=1).partition("?")
        try:
            path = unquote(raw_path or "/", errors="strict")
        except UnicodeDecodeError:
            return Response(400, body=f"the path {shown([raw_path])} is not UTF-8\n")
        schemes = ("wss", "https") if request.scheme == "https" else ("ws", "http")
        try:
            adapter = self._map.bind(request.headers.get("Host", ""), url_scheme=schemes[not is_websocket])
            try:
                found = adapter.match(path, request.method, query_args=query, websocket=is_websocket)
            except routing.RequestRedirect as redirect:
                # As above, for maps that others have made.
                if not is_websocket or path.endswith("/"):
                    raise
                try:
                    found = adapter.match(f"{path}/", request.method, query_args=query, websocket=True)
                except exceptions.HTTPException:
                    raise redirect from None
        except routing.RequestRedirect as exc:
            return Response(exc.code, headers=[("Location", exc.new_url)], body=f"it is at {exc.new_url}\n")
        except exceptions.MethodNotAllowed as exc:
            return _not_allowed(request, sorted(exc.valid_methods))
        except routing.WebsocketMismatch:
            if is_websocket:
                return Response(404, body=f"there is no WebSocket at {shown([request.target])}\n")
            return None if request.method == "GET" else _not_allowed(request, ["GET"])
        except exceptions.HTTPException:
            return _not_found(request)
        endpoint, params = found
        return self._routes[endpoint], params


def _ask(hooks: list[Callable[[], Any]], accept: Accept) -> Any:
    """Ask one after the other, until one refuses; what an `Accept` says counts more than what was said before."""
    if not hooks:
        return accept

    def go_on(said: Any) -> Any:
        if said is None:
            return _ask(hooks[1:], accept)
        return _ask(hooks[1:], said.with_defaults(accept)) if isinstance(said, Accept) else said

    return then(hooks[0](), go_on)


def _view_checker(route: Route) -> Callable[[Any], Response]:
    """Return what makes sure that a view has answered: nothing else would."""

    def check(said: Any) -> Response:
        if not isinstance(said, Response):
            raise TypeError(f"the view at {route.path!r} must return a Response, not {said!r}")
        return said

    return check


def routed(router: Router, on_request: Callable[[Request], Any] | None) -> Callable[[Request], Any]:
    """Return what is asked with every request: the server's own ``on_request`` first, then the router."""
    if on_request is None:
        return router.answer
    first = on_request

    def ask(request: Request) -> Any:
        def go_on(said: Any) -> Any:
            if said is None:
                return router.answer(request)
            if not isinstance(said, Accept) or said.handler is not None or said.close is not None:
                return said
            return then(
                router.answer(request),
                lambda own: said.with_defaults(own) if isinstance(own, Accept) else own,
            )

        return then(first(request), go_on)

    return ask


def _not_found(request: Request) -> Response:
    return Response(404, body=f"there is nothing at {shown([request.target])}\n")


def _not_allowed(request: Request, allowed: list[str]) -> Response:
    methods = ", ".join(allowed)
    return Response(
        405,
        headers=[("Allow", methods)],
        body=f"{request.method} is not possible at {shown([request.target])}, but {methods}\n",
    )


def _werkzeug() -> tuple[Any, Any]:
    try:
        return importlib.import_module("werkzeug.routing"), importlib.import_module("werkzeug.exceptions")
    except ImportError as exc:
        raise ImportError(
            "path patterns need werkzeug, which is not installed: pip install 'wsframe[routing]'"
            " (a Router of a function does without it)"
        ) from exc
