import socket

from steerline.orchestration.ports import free_ports, is_free


def test_ports_are_free_all_different_and_given_to_nobody_else_by_ray_or_by_the_system() -> None:
    ports = free_ports(200)
    assert len(set(ports)) == 200
    assert all(19999 < port < 32768 and is_free(port) for port in ports)


def test_a_preferred_port_is_taken_when_free_and_replaced_when_not() -> None:
    (wanted,) = free_ports(1)
    assert free_ports(2, [wanted])[0] == wanted
    with socket.socket() as server:
        server.bind(("127.0.0.1", wanted))
        server.listen()
        assert not is_free(wanted)
        assert free_ports(1, [wanted])[0] != wanted
