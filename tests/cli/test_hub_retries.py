"""A hub that does not answer is one line, not two for each attempt of its client."""

import logging
import socket

import pytest

from cytolora.cli.hub_retries import _CLIENT, one_line_of_retries


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the hub's client prints."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [handler])
    return texts


def closed_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_an_address_that_refuses_is_one_line_however_often_the_client_asks(said: list[str]):
    from huggingface_hub.utils import http_backoff

    host = closed_address()

    def ask() -> None:
        with pytest.raises(Exception, match="refused"):
            http_backoff("HEAD", f"http://me:secret@{host}/a/b", max_retries=3, base_wait_time=0.001)

    with one_line_of_retries():
        ask()
        ask()
    assert len(said) == 1
    assert said[0].startswith(f"No answer from {host} (")
    assert "refused" in said[0]
    assert "secret" not in said[0]
    said.clear()
    ask()
    assert len(said) == 7  # as the client says it, outside of a command


def test_another_host_and_another_message_are_told_too(said: list[str]):
    client = logging.getLogger(_CLIENT)
    with one_line_of_retries():
        for host in ("a.org", "b.org", "a.org"):
            client.warning(f"HTTP Error 503 thrown while requesting GET https://{host}/x")
            client.warning("Retrying in 1s [Retry 1/5].")
        client.warning("Rate limited. Waiting 61s before retry [Retry 1/5].")
    assert [text.split(" (")[0] for text in said[:2]] == ["No answer from a.org", "No answer from b.org"]
    assert "HTTP Error 503" in said[0]
    assert said[2:] == ["Rate limited. Waiting 61s before retry [Retry 1/5]."]
