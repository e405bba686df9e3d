"""The download of what a URL names, for the operator who gives the URL to a command."""

import re
from concurrent.futures import Future
from http.client import HTTPException, HTTPResponse, IncompleteRead
from string import punctuation
from threading import Thread
from urllib.error import URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import HTTPErrorProcessor, Request, build_opener

from app.cli.terminal import Refusal
from app.services import VERSION
from app.sources.reading import MAX_FILE

_REDIRECTS = 5
#: What urllib takes; it repeats all of another URL, with its query.
_PLAIN = re.compile("[!-~]+")
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"roster/{VERSION}"}


class _AnyStatus(HTTPErrorProcessor):
    """Returns each response as it is: urllib itself would follow redirects to other schemes."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:  # noqa: ARG002
        return response

    https_response = http_response


def download(url: str, *, seconds: float = 20.0, most: int = MAX_FILE) -> bytes:
    """Return the body of the 200 at `url`: http or https, also of this host and of its network.

    All of it takes `seconds` at most: names, redirects, headers and body. It goes through the
    proxies of the environment as urllib reads them: ``http_proxy``, ``https_proxy``, ``no_proxy``.

    Raise `Refusal` for another scheme, also in a redirect; more than 5 redirects; a URL with a
    password; another status; a body that is encoded, cut off, or longer than `most` bytes.
    """
    body: Future[bytes] = Future()
    # A timeout of the socket would not end a server that sends a byte a second, nor a resolver.
    Thread(target=_complete, args=(body, url, most), daemon=True).start()
    try:
        return body.result(seconds)
    except TimeoutError:
        raise Refusal(
            f"{_shown(url)} did not arrive within {seconds:g} seconds. Fetch it to a file, and "
            "import that: curl -fL -o FILE URL"
        ) from None


def _complete(body: Future[bytes], url: str, most: int) -> None:
    try:
        body.set_result(_follow(url, most))
    except Exception as error:  # noqa: BLE001 - `result` raises it
        body.set_exception(error)


def _follow(url: str, most: int) -> bytes:
    opener, at = build_opener(_AnyStatus), _checked(url)
    for _ in range(_REDIRECTS + 1):
        try:
            request = Request(at, headers=_HEADERS)  # noqa: S310 - the scheme is checked
            with opener.open(request) as response:
                if response.status not in range(300, 400) or not response.headers["Location"]:
                    return _body(response, at, most)
                at = _target(at, response.headers["Location"])
        except IncompleteRead:
            raise Refusal(f"{_shown(at)} was cut off before its end. Try again.") from None
        except (OSError, HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise Refusal(f"{_shown(at)} cannot be fetched: {reason}.") from error
    raise Refusal(
        f"{_shown(url)} redirects more than {_REDIRECTS} times, at last to {_shown(at)}: give "
        "the URL of the file itself."
    )


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:  # of an IPv6 address without its bracket
        parts = urlsplit("")
    if "@" in parts.netloc:
        raise Refusal(
            "A URL with a user or a password is not taken: others can see it. Instead: "
            "curl -fsSL -u USER URL | flask models import -"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not _PLAIN.fullmatch(url):
        raise Refusal(
            f"'{_shown(url)}' is no URL with http:// or https:// and a host, all in ASCII and "
            "without blanks."
        )
    return url


def _target(url: str, location: str) -> str:
    """Return where a redirect leads; what a URL cannot have is escaped."""
    target = _checked(quote(urljoin(url, location), safe=punctuation, encoding="iso-8859-1"))
    if urlsplit(target).scheme != urlsplit(url).scheme:
        raise Refusal(
            f"{_shown(url)} redirects to another scheme, which is not followed. If that is where "
            f"it should lead, give this URL instead: {_shown(target)}"
        )
    return target


def _body(response: HTTPResponse, url: str, most: int) -> bytes:
    status, shown = response.status, _shown(url)
    if status in (401, 403):
        raise Refusal(
            f"{shown} answered {status}: it wants a key, and none is sent. With a key: "
            "curl -fsSL -H 'Authorization: Bearer KEY' URL | flask models import -"
        )
    if status != 200:  # noqa: PLR2004
        raise Refusal(f"{shown} answered {status}, and 200 is wanted. Check the URL.")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise Refusal(
            f"{shown} is encoded as '{encoding}', and no encoding is wanted. Instead: "
            "curl -fsSL --compressed URL | flask models import -"
        )
    if (response.length or 0) > most or len(body := response.read(most + 1)) > most:
        raise Refusal(f"{shown} is longer than {most >> 20} MiB, and no file may be longer.")
    if response.length:  # is what has not come
        raise IncompleteRead(body)
    return body


def _shown(url: str) -> str:
    """Return `url` without its query, which may have a key: sentences get to logs and others."""
    shown, mark, _ = url.partition("?")
    return f"{shown}?…" if mark else shown
