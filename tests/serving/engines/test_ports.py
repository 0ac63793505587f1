from __future__ import annotations

import socket

import pytest

from data.errors import UsageError
from serving.engines.ports import bind_port, free_ports


def test_port_in_use_names_the_port_and_the_fix() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} .*in use.*--port"):
            bind_port("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 99999), ("256.1.1.1", 0)])
def test_address_that_cannot_be_bound(host: str, port: int) -> None:
    with pytest.raises(UsageError, match="--port"):
        bind_port(host, port)


def test_bound_port_refuses_clients_until_somebody_listens() -> None:
    with bind_port("127.0.0.1", 0) as bound, socket.socket() as client:
        assert client.connect_ex(bound.getsockname()) != 0
        bound.listen()
        with socket.create_connection(bound.getsockname()):
            pass


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20
