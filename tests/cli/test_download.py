"""What a URL on the command line brings, and what is refused, with real servers on this host."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from app.cli.download import download
from app.cli.terminal import Refusal

#: For the downloads that must not end in time; in seconds.
SOON = 0.3
BODY = b'{"data": []}'
MOST = 1 << 20  # 1 MiB


class Origin(ThreadingHTTPServer):
    """A server that does what the path says; `seen` has the request lines and the headers."""

    daemon_threads = True
    seen: list[tuple[str, dict[str, str]]]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen = []
        #: Set when the test is over.
        self.over = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def do_GET(self) -> None:
        self.server.seen.append((self.requestline, dict(self.headers)))
        self.close_connection = True
        _, kind, *words = urlsplit(self.path).path.split("/", 2)
        getattr(self, kind or "body")(*words)

    def body(self, *_: str) -> None:
        self.head("200", **{"Content-Length": str(len(BODY))})
        self.wfile.write(BODY)

    def head(self, status: str, **headers: str) -> None:
        self.send_response(int(status))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def status(self, code: str) -> None:
        self.head(code, Content_Length="0")

    def to(self, target: str) -> None:
        self.head("302", Location=target.replace("+", " "), Content_Length="0")

    def loop(self, *_: str) -> None:
        self.to("/loop?key=secret")

    def elsewhere(self, scheme: str) -> None:
        self.to(f"{scheme}://127.0.0.1/?key=secret")

    def steps(self, number: str) -> None:
        self.to(f"/steps/{int(number) - 1}" if int(number) > 1 else "/body")

    def late(self, number: str) -> None:
        self.server.over.wait(SOON / 2)
        self.to(f"/late/{int(number) + 1}")

    def chunks(self, number: str, end: str = "0\r\n\r\n") -> None:
        self.head("200", Transfer_Encoding="chunked")
        for _ in range(int(number)):
            self.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        self.wfile.write(end.encode())

    def torn(self, number: str) -> None:
        self.chunks(number, "10000\r\nxxx")

    def short(self, *_: str) -> None:
        self.head("200", Content_Length="100")
        self.wfile.write(BODY)

    def unannounced(self, *_: str) -> None:
        self.head("200")
        self.wfile.write(BODY)

    def long(self, size: str) -> None:
        self.head("200", Content_Length=size)

    def encoded(self, coding: str) -> None:
        self.head("200", Content_Encoding=coding, Content_Length=str(len(BODY)))
        self.wfile.write(BODY)

    def drip(self, beginning: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"\r\n" * (beginning == "body"))
        try:
            while not self.server.over.wait(SOON / 10):
                self.wfile.write(b"x")
        except OSError:
            pass

    def silent(self, *_: str) -> None:
        self.server.over.wait()

    def other(self, *_: str) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment is in the way."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def refusal() -> Callable[..., str]:
    """Return what downloads, and returns the sentence of the refusal."""

    def refusal(url: str, seconds: float = 20.0) -> str:
        with pytest.raises(Refusal) as refused:
            download(url, seconds=seconds, most=MOST)
        return refused.value.message

    return refusal


@pytest.mark.parametrize("path", ["/", "/steps/5", "/unannounced", "/encoded/Identity"])
def test_the_body_of_a_200_is_returned(origin, path):
    """Also without a length, and after five redirects; no encoding is asked for."""
    assert BODY == download(origin.url + path)
    [headers] = {tuple(sorted(headers.items())) for _, headers in origin.seen}
    assert "identity" == dict(headers)["Accept-Encoding"]
    assert dict(headers)["User-Agent"].startswith("roster/")


def test_a_chunked_body_may_be_as_long_as_any(origin):
    """One of exactly the bound arrives whole."""
    assert MOST == len(download(f"{origin.url}/chunks/16", most=MOST))


@pytest.mark.parametrize("path", ["/chunks/17", f"/long/{MOST + 1}", "/long/99999999999"])
def test_a_body_that_is_too_long_is_refused(origin, refusal, path):
    """By its announced length before any of it is read, else as soon as it is beyond."""
    assert f"{origin.url}{path} is longer than 1 MiB, and no file may be longer." == refusal(
        origin.url + path
    )


@pytest.mark.parametrize("path", ["/short", "/torn/0", "/torn/3"])
def test_a_body_that_is_cut_off_is_refused(origin, refusal, path):
    """By its length, and by its chunks."""
    assert f"{origin.url}{path} was cut off before its end. Try again." == refusal(
        origin.url + path
    )


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_an_encoded_body_is_refused(origin, refusal, coding):
    """A short one could be gigabytes; the sentence has the command that decodes it."""
    said = refusal(f"{origin.url}/encoded/{coding}")

    assert f" is encoded as '{coding}'" in said
    assert "curl -fsSL --compressed URL | flask models import -" in said


@pytest.mark.parametrize("path", ["/silent", "/drip/head", "/drip/body", "/late/1", "/to//silent"])
def test_all_of_it_has_one_time(origin, refusal, path):
    """No answer, a byte now and then, and redirects that take their time all end then."""
    said = refusal(origin.url + path, SOON)

    assert said == (
        f"{origin.url}{path} did not arrive within 0.3 seconds. Fetch it to a file, and import "
        "that: curl -fL -o FILE URL"
    )


@pytest.mark.parametrize("path", ["/steps/6", "/loop"])
def test_a_sixth_redirect_is_refused(origin, refusal, path):
    """Also one that leads to itself."""
    said = refusal(origin.url + path)

    assert f"{origin.url}{path} redirects more than 5 times, at last to {origin.url}/" in said
    assert 6 == len(origin.seen)


def test_a_redirect_to_https_names_the_url_to_give(origin, refusal):
    """The other scheme is not followed, be it the safer one."""
    said = refusal(f"{origin.url}/to/https://127.0.0.1/a+b")

    assert said.endswith("give this URL instead: https://127.0.0.1/a%20b")
    assert 1 == len(origin.seen)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http:/x"])
def test_other_schemes_are_refused(origin, refusal, url):
    """Whether the operator gives them or a redirect does."""
    expected = (
        f"'{url}' is no URL with http:// or https:// and a host, all in ASCII and without blanks."
    )

    assert expected == refusal(url)
    if url != "http:/x":  # beside a URL that is relative to this very server
        assert expected == refusal(f"{origin.url}/to/{url}")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "models.json",
        "http://",
        "http://[::1/x",
        "http://127.0.0.1/é",
        "//127.0.0.1/x",
        "http://127.0.0.1/a b",
    ],
)
def test_what_is_no_url_is_refused(refusal, url):
    """With the same sentence."""
    assert "is no URL with http:// or https://" in refusal(url)


@pytest.mark.parametrize("user", ["me", "me:secret", ":secret"])
def test_a_url_with_a_password_is_refused_and_not_repeated(origin, refusal, user):
    """So that nothing is forwarded; neither is one in a redirect followed."""
    url = origin.url.replace("//", f"//{user}@")
    for given in (url, f"ftp://{user}@127.0.0.1/", f"{origin.url}/to/{url}"):
        said = refusal(given)

        assert "curl -fsSL -u USER URL | flask models import -" in said
        assert "secret" not in said
    assert 1 == len(origin.seen)


@pytest.mark.parametrize("status", [204, 206, 301, 304, 404, 500])
def test_any_status_but_200_is_refused(origin, refusal, status):
    """Also a redirect to nowhere."""
    said = refusal(f"{origin.url}/status/{status}?key=secret")

    assert (
        f"{origin.url}/status/{status}?… answered {status}, and 200 is wanted. Check the URL."
        == said
    )


@pytest.mark.parametrize("status", [401, 403])
def test_where_a_key_is_wanted_the_command_with_one_is_named(origin, refusal, status):
    """With a word for the URL, which may have another key."""
    said = refusal(f"{origin.url}/status/{status}?a=1&b=2")

    assert f"answered {status}: it wants a key, and none is sent." in said
    assert said.endswith("curl -fsSL -H 'Authorization: Bearer KEY' URL | flask models import -")


@pytest.mark.parametrize(
    "path",
    [
        "/status/401",
        "/status/404",
        "/encoded/br",
        "/loop",
        "/elsewhere/https",
        "/elsewhere/file",
        "/long/99999999999",
        "/short",
        "/other",
        "/a b",
        "/é",
    ],
)
def test_no_sentence_repeats_a_query(origin, refusal, path):
    """It may have a key, and sentences are printed, logged and shown to other administrators."""
    said = refusal(f"{origin.url}{path}?key=secret")

    assert "secret" not in said


def test_what_does_not_answer_in_http_is_refused(origin, refusal):
    """Another protocol, a port where nobody listens, and a strange port."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url, reason in (
        (f"{origin.url}/other", "SSH-2.0"),
        (f"http://127.0.0.1:{port}/x", "Connection refused"),
        ("http://127.0.0.1:x/", "nonnumeric port"),
        (origin.url.replace("http:", "https:"), "SSL"),
    ):
        assert re.fullmatch(rf"{re.escape(url)} cannot be fetched: .*{reason}.*\.", refusal(url))


def test_the_proxy_of_the_environment_is_asked(origin, monkeypatch):
    """Unless no_proxy names the host."""
    monkeypatch.setenv("http_proxy", origin.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    assert BODY == download("http://catalogue.example/body")
    assert BODY == download(f"{origin.url}/body")
    requests = [line for line, _ in origin.seen]
    assert ["GET http://catalogue.example/body HTTP/1.1", "GET /body HTTP/1.1"] == requests
