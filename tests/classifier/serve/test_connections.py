"""Who yields when connections run short, and what counts as one client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.classifier.serve.connections import Connections, FullError, client_of


def test_at_its_own_limit_a_client_loses_its_oldest_waiting_connection_and_others_lose_none():
    connections: Connections[str] = Connections(in_all=10, per_client=2)
    assert [connections.enter(name, "a") for name in ("a1", "a2")] == [None, None]
    assert connections.enter("b1", "b") is None
    assert connections.enter("a3", "a") == "a1"
    connections.waits("a2")  # it has sent something whole and waits anew
    assert connections.enter("a4", "a") == "a3"
    assert len(connections) == 3


def test_at_the_limit_in_all_the_client_with_most_connections_loses_one():
    connections: Connections[str] = Connections(in_all=4, per_client=4)
    for name, client in (("b1", "b"), ("a1", "a"), ("a2", "a"), ("a3", "a")):
        connections.enter(name, client)
    assert connections.enter("c1", "c") == "a1"
    connections.is_answered("a2")
    connections.is_answered("a3")
    assert connections.enter("d1", "d") == "b1"


def test_a_connection_that_is_being_answered_never_yields():
    connections: Connections[str] = Connections(in_all=2, per_client=2)
    for name in ("a1", "a2"):
        connections.enter(name, "a")
        connections.is_answered(name)
    for client in ("a", "b"):
        with pytest.raises(FullError):
            connections.enter("new", client)
    assert len(connections) == 2
    connections.leave("a1")
    assert connections.enter("new", "b") is None


@given(
    st.lists(st.tuples(st.sampled_from(["enter", "answered", "waits", "leave"]), st.integers(0, 30)), max_size=120),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_no_order_of_events_exceeds_a_limit_or_closes_what_is_being_answered(events, in_all: int, per_client: int):
    connections: Connections[int] = Connections(in_all=in_all, per_client=per_client)
    client_by_number: dict[int, str] = {}
    answered: set[int] = set()
    for number, (event, chosen) in enumerate(events):
        if event == "enter":
            client = "abc"[chosen % 3]
            try:
                leaving = connections.enter(number, client)
            except FullError:
                assert answered
                continue
            assert leaving not in answered
            client_by_number.pop(-1 if leaving is None else leaving, None)
            client_by_number[number] = client
        elif client_by_number:
            picked = sorted(client_by_number)[chosen % len(client_by_number)]
            {"answered": connections.is_answered, "waits": connections.waits, "leave": connections.leave}[event](picked)
            (answered.add if event == "answered" else answered.discard)(picked)
            if event == "leave":
                del client_by_number[picked]
        clients = list(client_by_number.values())
        assert len(connections) == len(clients) <= in_all
        assert all(clients.count(client) <= per_client for client in "abc")


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("127.0.0.1", "loopback"),
        ("127.3.4.5", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.9", "loopback"),
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::2", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_all_addresses_that_one_client_may_take_are_one_client(host: str, client: str):
    assert client_of(host) == client
