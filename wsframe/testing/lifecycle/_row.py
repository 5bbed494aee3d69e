"""One row of the table: a script, and the ending that it must lead to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..._adapter._settings import ConnectionOptions
from ..._enums import Cause, Initiator, Role, State
from ..._events import CloseFrame
from ._acts import Act, ApplicationAct, Opening, PeerAct

__all__ = ["Instead", "Row", "TCPEnd"]

TCPEnd: TypeAlias = Literal["FIN", "dropped", "lost", "kept"]


@dataclass(frozen=True, slots=True)
class Instead:
    """What an adapter does instead of what the core can do.

    Attributes:
        like: the name of the row whose ending the application gets there; None where the row cannot happen there.
        because: why.
    """

    like: str | None
    because: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """What both sides do, and how the connection ends for the side under test.

    Attributes:
        name: unique: the role, a slash and a few words, as in ``server/fin-without-close``.
        group: the part of the table that it stands in.
        what: one plain line for the documentation.
        role: the role of the side under test.
        acts: what happens, in order. After the last act everybody waits for the ending.
        settings: keyword arguments of the adapters for the side under test. What a row does not name does not matter,
            but a player may turn keepalive off where ``ping_interval`` is not named.
        tls: it is played over TLS.

        phase, cause, initiator, clean, code, reason, received, sent, received_first, was_websocket: the fields of
            ``Disconnected``, as they must be.
        error: the type of ``Disconnected.error`` (that, or one derived from it), or None.
        says: a part of what that error says, as far as wsframe itself has written it.
        age: ``Disconnected.last_received_age`` where only the acts and deadlines take time; None: no byte ever came.
        unanswered_ping: likewise.

        delivered: the messages that the application must have got, in order; without those of `KeepSending`.
        wire: what our side must have sent after (a refused handshake: instead of) its half of the opening handshake:
            "Close 1000", "Close" (without a code), "Ping", "Pong", "Text", "Binary", "HTTP 408". Several of the same
            in a row stand there once. A peer that does not read, or is gone, sees less of it.
        tcp: how our side ends TCP. "FIN": in order, after all of ``wire``, so that a peer that reads gets every byte;
            "dropped": at once, by FIN or RST as the system will; "lost": the peer or the network has ended it, there
            is nothing left to do; "kept": it stays open.
        after: seconds after the last act before which the ending must not be there.
        by: seconds after the last act at which it must be there, on a machine that takes no time.
        when: the same in words: the names of the settings that decide, or "at once".

        same_as: the name of a row that has the same ending, and does not itself name another one.
        because: why the application need not be able to tell these two apart.
        except_on: the name of an adapter -> what it does instead.

    Raises:
        ValueError: the row contradicts itself.
    """

    name: str
    group: str
    what: str
    role: Role
    acts: tuple[Act, ...]
    settings: ConnectionOptions = field(default_factory=ConnectionOptions)
    tls: bool = False

    phase: State
    cause: Cause
    initiator: Initiator
    clean: bool = False
    code: int = 1006
    reason: str = ""
    received: CloseFrame | None = None
    sent: CloseFrame | None = None
    received_first: bool | None = None
    was_websocket: bool = True
    error: type[BaseException] | None = None
    says: str = ""
    age: float | None = 0.0
    unanswered_ping: float | None = None

    delivered: tuple[str | bytes, ...] = ()
    wire: tuple[str, ...] = ()
    tcp: TCPEnd = "FIN"
    after: float = 0.0
    by: float = 0.0
    when: str = "at once"

    same_as: str | None = None
    because: str | None = None
    except_on: Mapping[str, Instead] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = self._contradiction()
        if wrong is not None:
            raise ValueError(f"{self.name}: {wrong}")

    def _contradiction(self) -> str | None:
        if not re.fullmatch(r"(client|server)/[a-z0-9]+(-[a-z0-9]+)*", self.name):
            return "the name is not role/words-with-hyphens"
        if not self.name.startswith(self.role.value + "/"):
            return f"the name is not that of a {self.role.value}"
        if (self.same_as is None) != (self.because is None):
            return "same_as and because go together"
        if any(isinstance(act, Opening) for act in self.acts[1:]):
            return "Opening is the first act or none"
        if self.was_websocket != self.opens:
            return "it begins with Opening if and only if it ends as a WebSocket"
        if not 0 <= self.after <= self.by:
            return "after > by"
        if self.by > 0 and self.when == "at once":
            return "at once, but not by 0.0"
        return None

    @property
    def opens(self) -> bool:
        """The script begins with a successful opening handshake."""
        return bool(self.acts) and isinstance(self.acts[0], Opening)

    @property
    def over_sockets(self) -> bool:
        """The row can be played by a script on a loopback socket."""
        return all(act.over_sockets for act in self.acts)

    @property
    def peer_acts(self) -> tuple[PeerAct, ...]:
        """What the peer does, without what the application does."""
        return tuple(act for act in self.acts if isinstance(act, PeerAct))

    @property
    def application_acts(self) -> tuple[ApplicationAct, ...]:
        """What the application does, without what the peer does."""
        return tuple(act for act in self.acts if isinstance(act, ApplicationAct))

    @property
    def ending(self) -> tuple[Any, ...]:
        """All that an application can tell. Rows of one role that are equal in this need ``same_as``."""
        return (
            self.role,
            self.phase,
            self.cause,
            self.initiator,
            self.clean,
            self.code,
            self.reason,
            self.received,
            self.sent,
            self.received_first,
            self.was_websocket,
            self.error,
            self.says,
        )
