"""Types of the compiled fast path: those of its twin, which is the reference."""

from ._fastpath_py import Finished as Finished
from ._fastpath_py import Inbox as Inbox
from ._fastpath_py import Lane as Lane
from ._fastpath_py import Receive as Receive
from ._fastpath_py import ReceiveQueue as ReceiveQueue
from ._fastpath_py import SocketTransport as SocketTransport
from ._fastpath_py import Traffic as Traffic
