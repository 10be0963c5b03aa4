"""Answer of a server within a bounded time, asked before the library of a tracker is loaded."""


def check_answer(address: str, seconds: float) -> None:
    """Raises an OSError if an HTTP server does not answer within about ``seconds``; other addresses pass.

    Any answer is one, a refusal too: the tracker's library knows how to identify itself, and tells what it is told.
    """
    if not address.lower().startswith(("http://", "https://")):
        return
    import requests

    try:
        requests.get(address, timeout=seconds / 2, allow_redirects=False, stream=True).close()  # to connect, to answer
    except requests.exceptions.SSLError:
        return  # it answered; whether its certificate is trusted is the library's setting
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise OSError(f"no answer over HTTP within {seconds:g} s") from error
    except requests.exceptions.RequestException as error:
        raise OSError(str(error)) from error
