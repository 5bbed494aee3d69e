"""What helps to test with wsframe: virtual time, a network in memory, scripted peers, and things that go wrong.

See ``docs/testing.md``.
"""

from __future__ import annotations

from ._clock import Deadlock, VirtualClockLoop, run
from ._faults import CancelAt, Fault, Faults, sweep
from ._network import MemoryNetwork
from ._pair import connected, pair
from ._peer import BlockingPeer, Peer, PeerListener, listen
from ._sockets import FaultyListener, FaultySocket

__all__ = [
    "BlockingPeer",
    "CancelAt",
    "Deadlock",
    "Fault",
    "Faults",
    "FaultyListener",
    "FaultySocket",
    "MemoryNetwork",
    "Peer",
    "PeerListener",
    "VirtualClockLoop",
    "connected",
    "listen",
    "pair",
    "run",
    "sweep",
]
