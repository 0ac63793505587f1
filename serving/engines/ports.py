"""Ports on this machine: the gateway's, which a person chose, and the engines', which nobody needs to know."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from data.errors import UsageError


def bind_port(host: str, port: int) -> socket.socket:
    """Return a socket bound to `port`, not listening yet; 0 lets the system choose.

    Bound before anything else is started, so that a port in use costs no waiting, and handed to the server as
    it is. Until that listens, clients are refused.

    Raises:
        UsageError: the port is in use, or the host or port cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle off; otherwise an answer waits 40 ms for the client to acknowledge.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            message = (
                f"port {port} on {host} is in use; stop what listens there or choose another with --port"
            )
        elif error.errno == errno.EACCES:
            message = f"port {port} on {host} needs more rights; choose one above 1023 with --port"
        else:
            message = f"cannot listen on {host}:{port} ({error.strerror or error}); correct --host or --port"
        raise UsageError(message) from error
    except OverflowError as error:
        bound.close()
        raise UsageError(f"--port {port}: a port is a number from 0 to 65535") from error
    return bound


def free_ports(count: int) -> list[int]:
    """Return `count` different ports of the loopback interface that nothing listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [int(bound.getsockname()[1]) for bound in sockets]
