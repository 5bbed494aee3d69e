"""Extensions: the ``Sec-WebSocket-Extensions`` header and its negotiation (RFC 6455 s9).

What a connection needs of an agreed extension is `PerMessageExtension`, what a user hands in as settings is an
`ExtensionFactory`. There are only per-message extensions (RFC 7692 s5), and each of them marks its messages with
RSV1: that is why at most one can be agreed for a connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from ._errors import HandshakeError

__all__ = [
    "ExtensionFactory",
    "ExtensionItem",
    "Params",
    "PerMessageExtension",
    "check_extensions",
    "format_extensions",
    "negotiate_extensions",
    "offer_extensions",
    "parse_extensions",
]

#: Parameters in their order: (name, value), the value None when there is none.
Params = tuple[tuple[str, str | None], ...]

#: The most extensions in one header (all its lines), and the most parameters of one extension.
MAX_ITEMS = 32
MAX_PARAMS = 32


@dataclass(frozen=True, slots=True)
class ExtensionItem:
    """One element of ``Sec-WebSocket-Extensions``: an offer, or what a server agreed to (RFC 6455 s9.1).

    Args:
        name: the extension's name, a token.
        params: its parameters, in order and possibly repeated; quoted values are unquoted.
    """

    name: str
    params: Params = ()


class PerMessageExtension(Protocol):
    """An extension as agreed for one connection: both its directions (RFC 7692 s5, s6).

    It is called for messages that have RSV1 set, and for nothing else: what the peer sent uncompressed and control
    frames between fragments never reach it. After a `CodecError` the connection is failed and it is not used again.
    """

    @property
    def name(self) -> str:
        """Its name in the header."""
        ...

    @property
    def params(self) -> Params:
        """The parameters that the server's response has, and so what both sides agreed to."""
        ...

    @property
    def min_size(self) -> int:
        """Messages of fewer bytes are better sent without the extension."""
        ...

    def encode(self, data: bytes, *, first: bool, final: bool) -> bytes:
        """Make the payload of one outgoing data frame (RFC 7692 s6.1).

        Args:
            data: the bytes of the message that go into this frame; may be empty.
            first: whether the frame begins its message.
            final: whether it ends it.
        """
        ...

    def decode(self, data: bytes, *, final: bool, limit: int) -> bytes:
        """Give the bytes of the message that are in one received frame, or in a piece of one (RFC 7692 s6.2).

        Args:
            data: the next bytes of the message's payload; may be empty.
            final: whether they are the last of the message.
            limit: bytes by which the message may still grow; that many still pass.

        Raises:
            CodecError: 1009 as soon as the message is over the limit; 1007 when the data is not valid.
        """
        ...


class ExtensionFactory(Protocol):
    """Settings from which extensions are negotiated, in either role; one object may serve any number of connections."""

    @property
    def name(self) -> str:
        """The extension's name in the header."""
        ...

    def offers(self) -> list[Params]:
        """What a client offers, best first; each is one element of the header."""
        ...

    def accept_response(self, params: Params) -> PerMessageExtension:
        """Client: take what the server agreed to.

        Raises:
            HandshakeError: that answers no offer of ours, or it is not valid.
        """
        ...

    def accept_offer(self, params: Params) -> PerMessageExtension | None:
        """Server: take an offer, or None to decline it."""
        ...


# RFC 9110 s5.6.2. The quantifiers are possessive: nothing here ever goes back, so time is linear in the input.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105
_token = re.compile(_TOKEN)
#: RFC 9110 s5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements".
_separators = re.compile(r"[ \t,]*+")
_parameter = re.compile(
    rf"""[ \t]*+;[ \t]*+({_TOKEN})(?:[ \t]*+=[ \t]*+(?:({_TOKEN})|"((?:[^"\\]|\\.)*+)"))?+""", re.DOTALL
)
_spaces = re.compile(r"[ \t]*+")
_quoted_pair = re.compile(r"\\(.)", re.DOTALL)


def parse_extensions(values: Iterable[str]) -> list[ExtensionItem]:
    """Read ``Sec-WebSocket-Extensions`` (RFC 6455 s9.1).

    Args:
        values: the values of all the lines of that header, in order; together they are one list.

    Returns:
        its elements in order. What the names and parameters mean is not looked at.

    Raises:
        HandshakeError: the header does not conform to the grammar, or has over 32 elements, or one of them over 32
            parameters. The text says what, and where: the number of the line and the offset in it.
    """
    items: list[ExtensionItem] = []
    for number, text in enumerate(values, 1):
        position = _skip(_separators, text, 0)
        while position < len(text):
            found = _token.match(text, position)
            if found is None:
                _fail("an extension's name is missing", number, text, position)
            if len(items) == MAX_ITEMS:
                _fail(f"over {MAX_ITEMS} extensions", number, text, position)
            params, position = _parse_params(number, text, found.end())
            items.append(ExtensionItem(found[0], params))
            position = _skip(_separators, text, position)
    return items


def _parse_params(number: int, text: str, position: int) -> tuple[Params, int]:
    """The parameters of one element, and where the comma after it or the end of the text is."""
    params: list[tuple[str, str | None]] = []
    while (found := _parameter.match(text, position)) is not None:
        if len(params) == MAX_PARAMS:
            _fail(f"over {MAX_PARAMS} parameters", number, text, position)
        name, value, quoted = found.groups()
        if quoted is not None:
            # RFC 6455 s9.1: "When using the quoted-string syntax variant, the value after quoted-string unescaping
            # MUST conform to the 'token' ABNF."
            value = _quoted_pair.sub(r"\1", quoted)
            if _token.fullmatch(value) is None:
                _fail("a quoted value is not a token", number, text, found.start(3) - 1)
        params.append((name, value))
        position = found.end()
    position = _skip(_spaces, text, position)
    if position < len(text) and text[position] != ",":
        what = {
            ";": "a parameter's name is missing",
            "=": "a parameter's value is neither a token nor a complete quoted string",
        }.get(text[position], "unexpected text")
        _fail(what, number, text, position)
    return tuple(params), position


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Where what an always matching pattern takes ends."""
    found = pattern.match(text, position)
    return position if found is None else found.end()


def _fail(what: str, number: int, text: str, position: int) -> NoReturn:
    excerpt = text[position : position + 20]
    raise HandshakeError(f"Sec-WebSocket-Extensions, line {number}, offset {position}: {what} at {excerpt!r}")


def format_extensions(items: Iterable[ExtensionItem]) -> str:
    """Write the value of one ``Sec-WebSocket-Extensions`` line (RFC 6455 s9.1).

    Raises:
        ValueError: a name or a value is not a token; so nothing can be smuggled into the head.
    """
    elements = []
    for item in items:
        parts = [_checked(item.name)]
        for name, value in item.params:
            parts.append(_checked(name) if value is None else f"{_checked(name)}={_checked(value)}")
        elements.append("; ".join(parts))
    return ", ".join(elements)


def _checked(text: str) -> str:
    if _token.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a token (RFC 9110 s5.6.2)")
    return text


def offer_extensions(factories: Sequence[ExtensionFactory]) -> str | None:
    """Client: the value of the request's ``Sec-WebSocket-Extensions``, or None when there is nothing to offer.

    The offers stand in the order of the factories, which is the order of preference (RFC 6455 s9.1).

    Raises:
        ValueError: two factories have one name, or a factory's offer cannot be written.
    """
    items = [
        ExtensionItem(name, params)
        for name, factory in _by_name(factories).items()
        for params in factory.offers()
    ]
    return format_extensions(items) if items else None


def negotiate_extensions(
    header_values: Iterable[str], factories: Sequence[ExtensionFactory]
) -> tuple[list[PerMessageExtension], str | None]:
    """Server: choose among a client's offers (RFC 6455 s9.1, RFC 7692 s5).

    The first offer, in the client's order, that a factory accepts is taken. All others are declined, and so are
    unknown names and wrong parameters; that is no error (RFC 7692 s7).

    Args:
        header_values: the values of the request's ``Sec-WebSocket-Extensions`` lines.
        factories: what this server is willing to use; their order says nothing.

    Returns:
        the extensions agreed, none or one, and the value of the response's ``Sec-WebSocket-Extensions``, or None when
        the response shall have no such line.

    Raises:
        HandshakeError: the header is broken (status 400).
        ValueError: two factories have one name.
    """
    known = _by_name(factories)
    try:
        offers = parse_extensions(header_values)
    except HandshakeError as exc:
        raise HandshakeError(str(exc), 400) from None
    for offer in offers:
        factory = known.get(offer.name)
        extension = None if factory is None else factory.accept_offer(offer.params)
        if extension is not None:
            # RFC 7692 s6: there is one RSV1, so the first extension agreed on is also the last.
            return [extension], format_extensions([ExtensionItem(extension.name, extension.params)])
    return [], None


def check_extensions(
    header_values: Iterable[str], factories: Sequence[ExtensionFactory]
) -> list[PerMessageExtension]:
    """Client: take what the server agreed to (RFC 6455 s4.1, RFC 7692 s5).

    Args:
        header_values: the values of the response's ``Sec-WebSocket-Extensions`` lines.
        factories: those that `offer_extensions` was given.

    Returns:
        the extensions agreed: none or one.

    Raises:
        HandshakeError: the header is broken; it names an extension that was not offered, or more than one; or the
            extension's parameters answer none of its offers.
        ValueError: two factories have one name.
    """
    known = _by_name(factories)
    agreed: list[PerMessageExtension] = []
    for item in parse_extensions(header_values):
        factory = known.get(item.name)
        # RFC 6455 s4.1: "If the response includes a |Sec-WebSocket-Extensions| header field and this header field
        # indicates the use of an extension that was not present in the client's handshake [...], the client MUST
        # _Fail the WebSocket Connection_."
        if factory is None:
            raise HandshakeError(f"the server agreed to extension {item.name}, which was not offered")
        if agreed:
            second = "twice" if agreed[0].name == item.name else f"and {item.name}, and both use RSV1"
            raise HandshakeError(f"the server agreed to extension {agreed[0].name} {second}")
        agreed.append(factory.accept_response(item.params))
    return agreed


def _by_name(factories: Sequence[ExtensionFactory]) -> dict[str, ExtensionFactory]:
    known: dict[str, ExtensionFactory] = {}
    for factory in factories:
        if factory.name in known:
            raise ValueError(f"two extension settings have the name {factory.name!r}")
        known[factory.name] = factory
    return known
