"""Every setting, once: its variable, default, unit, range and what it is for.

Standard library only, and no import of the rest of the application: ``gunicorn.conf.py`` runs
this file by itself, in a process that must not hold the application's code (see there).
"""

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self

_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_BIND = re.compile(r"unix:.+|[A-Za-z0-9._\[\]:-]+:(\d{1,5})", re.ASCII)
_SQLITE = re.compile(r"sqlite:///[^?]+")
# What libpq understands, of printable ASCII. A second @ would cut a password in two, and show
# its end as the name of a host.
_POSTGRESQL = re.compile(r"postgres(?:ql)?://(?:[^\s@/?#]*@)?[^\s@?#]*(?:\?[^\s#]*)?", re.ASCII)
#: The user's part of a URL with a character that must be escaped there.
_UNESCAPED = re.compile(r"postgres(?:ql)?://.*[\s@/?#].*@", re.DOTALL)
#: What else people and orchestrators call a setting.
_OTHER_WORDS = {
    **dict.fromkeys(("PORT", "HOST", "ADDR", "ADDRESS", "LISTEN", "SOCKET"), "ROSTER_BIND"),
    **dict.fromkeys(("WORKERS", "CONCURRENCY", "PROCESSES"), "WEB_CONCURRENCY"),
    **dict.fromkeys(("DB", "DSN", "POSTGRES", "SQLITE"), "ROSTER_DATABASE_URL"),
    **dict.fromkeys(("DATA", "DIR", "FOLDER", "HOME"), "ROSTER_INSTANCE_PATH"),
    **dict.fromkeys(("PROXY", "PROXIES", "FORWARDED"), "FORWARDED_ALLOW_IPS"),
}
_PASSWORD = re.compile(r"(://[^:/@]*:).*(@)|([?&](?:ssl)?password=)[^&]*")
# A key, also cut short; the eight characters of its id are no secret.
_KEY = re.compile(r"(ro_[0-9A-Za-z]{8}_)[0-9A-Za-z]+")
_PORTS = range(65536)
#: How many characters of a bad value are shown.
_SHOWN = 100
#: From how many characters on a name without a folder, or a placeholder, is taken for a key.
_LONG = 32


class SettingsError(Exception):
    """Some variables have values that cannot be used; the message has a line for each."""


class _MistakeError(ValueError):
    """The message says what is wrong with the value, and what to write."""


class _SecretError(ValueError):
    """The value may be a key in place of something else: no message may repeat it."""


def _key_file(text: str) -> Path:
    if not _KEY.search(text) and "/" not in text and len(text) >= _LONG:
        raise _SecretError  # the key of another vendor
    return _path(text)


def _path(text: str) -> Path:
    if not text or _KEY.search(text):  # the key in place of its file: no message may repeat it
        raise ValueError
    return Path(text)


def parse_database_url(text: str) -> str:
    """Return `text` if it names a database that we can use, else raise `ValueError`."""
    if _POSTGRESQL.fullmatch(text) and text.isascii() and text.isprintable():
        return text
    if _UNESCAPED.match(text):
        raise _MistakeError(
            "in user and password, characters such as @, :, /, ? and # are written as %40, %3A, "
            "%2F, %3F and %23"
        )
    if _SQLITE.fullmatch(text) is None or ":memory:" in text:
        raise ValueError
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return parse


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return parse


def normal_origin(text: str) -> str | None:
    """Return an origin in lower case and without its default port, None if `text` is none."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    if port is None or int(port) == _DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{int(port)}" if int(port) in _PORTS else None


def _origins(text: str) -> tuple[str, ...]:
    given = text.replace(",", " ").split()
    if given == ["*"]:
        return ("*",)
    origins = []
    for origin in given:
        if (normal := normal_origin(origin)) is None:
            raise _mistake_in(origin)
        origins.append(normal)
    return tuple(dict.fromkeys(origins))


def _mistake_in(origin: str) -> ValueError:
    """Return what is wrong with an origin, as an error."""
    beginning = _ORIGIN.match(origin)
    right = None if beginning is None else normal_origin(beginning[0])
    end = "" if beginning is None else origin[beginning.end() :]
    if origin == "*":
        mistake = "is every page: write it alone, or write each origin"
    elif "*" in origin:
        mistake = "has a *: write it alone for every page, or write each origin"
    elif origin == "null":
        mistake = "is not allowed: files and sandboxed pages of any site have it as their origin"
    elif "://" not in origin:
        mistake = "has no scheme: write https:// or http:// before it"
    elif not origin.isascii():
        mistake = "is not ASCII: write the host as browsers do, xn--…"
    elif right is not None and end.startswith("/"):
        fault = "has a path" if end.strip("/") else "ends with a slash"
        mistake = f"{fault}: write {right[:_SHOWN]}"
    else:
        return ValueError()
    return _MistakeError(f"{origin[:_SHOWN]!r} {mistake}")


def _placeholders(text: str) -> tuple[str, ...]:
    words = tuple(text.replace(",", " ").split())
    if _KEY.search(text) or not all(word.isascii() and word.isprintable() for word in words):
        raise ValueError
    if max(map(len, words), default=0) >= _LONG:
        raise _SecretError  # the key of another vendor
    return words


def _proxies(text: str) -> tuple[str, ...]:
    # As gunicorn does, which reads the same variable and does not start with what it refuses.
    proxies = tuple(proxy.strip() for proxy in text.strip().split(",") if proxy)
    for proxy in proxies:
        if proxy != "*":
            network = ip_network(proxy, strict=False)
            try:
                ip_network(proxy)
            except ValueError:
                mistake = f"{proxy!r} is an address in a network: write {network}"
                raise _MistakeError(mistake) from None
    return proxies


def _bind(text: str) -> str:
    match = _BIND.fullmatch(text)
    if match is None or (match[1] and int(match[1]) not in _PORTS):
        raise ValueError
    return text


def _setting(
    variable: str,
    parse: Callable[[str], Any],
    *,
    default: Any,
    values: str,
    help: str,  # noqa: A002
) -> Any:
    about = {"variable": variable, "parse": parse, "values": values, "help": help}
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one application; environments differ by values alone."""

    instance_path: Path = _setting(
        "ROSTER_INSTANCE_PATH",
        _path,
        default=Path(__file__).resolve().parent.parent / "instance",
        values="a folder",
        help="Folder of the database and the first admin key; made when missing.",
    )
    database_url: str | None = _setting(
        "ROSTER_DATABASE_URL",
        parse_database_url,
        default=None,
        values="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME",
        help="The database; unset, it is roster.db in the instance folder.",
    )
    auth: str = _setting(
        "ROSTER_AUTH",
        _one_of("optional", "required", "off"),
        default="optional",
        values="optional, required or off",
        help="Whether reading needs a key; off reads none: a gateway has checked the caller.",
    )
    ollama_auth: str | None = _setting(
        "ROSTER_OLLAMA_AUTH",
        _one_of("optional"),
        default=None,
        values="the word optional, or unset",
        help="Replaces required under /api/: few Ollama clients can send a key.",
    )
    public_keys: tuple[str, ...] = _setting(
        "ROSTER_PUBLIC_KEYS",
        _placeholders,
        default=(),
        values="ASCII words of fewer than 32 characters, separated by commas, and no keys",
        help="Placeholders such as EMPTY that count as no key for readers.",
    )
    admin_key_file: Path | None = _setting(
        "ROSTER_ADMIN_KEY_FILE",
        _key_file,
        default=None,
        values="a file with the key, not the key itself",
        help="File with one admin key to add at start, instead of making instance/admin-key.",
    )
    reply_fields: str = _setting(
        "ROSTER_FIELDS",
        _one_of("all", "reference"),
        default="all",
        values="all or reference",
        help="Fields of an entry in OpenAI's dialect; reference is the reference's seven.",
    )
    cors_origins: tuple[str, ...] = _setting(
        "ROSTER_CORS_ORIGINS",
        _origins,
        default=(),
        values="* or origins, separated by commas",
        help="Web pages that may read the public routes, such as https://chat.example.com.",
    )
    max_stale: int | None = _setting(
        "ROSTER_MAX_STALE",
        _whole(1, 999_999_999),
        default=None,
        values="1 or more seconds",
        help="In an outage of the database, how old lists may get; unset, they are served on.",
    )
    cache_bytes: int = _setting(
        "ROSTER_CACHE_BYTES",
        _whole(1024 * 1024, 999_999_999_999),
        default=256 * 1024 * 1024,  # 256 MiB
        values="1048576 or more bytes",
        help="Size of each worker's cache of replies and encoded entries.",
    )
    bind: str = _setting(
        "ROSTER_BIND",
        _bind,
        default="127.0.0.1:8000",
        values="HOST:PORT or unix:PATH",
        help="Where gunicorn listens.",
    )
    workers: int = _setting(
        "WEB_CONCURRENCY",
        _whole(1, 64),
        default=2,
        values="1 to 64 processes",
        help="Worker processes of gunicorn.",
    )
    threads: int = _setting(
        "ROSTER_THREADS",
        _whole(1, 64),
        default=4,
        values="1 to 64 threads",
        help="Threads in each worker process.",
    )
    keepalive: int = _setting(
        "ROSTER_KEEPALIVE",
        _whole(1, 3600),
        default=75,
        values="1 to 3600 seconds",
        help="How long gunicorn keeps an idle connection; longer than what is in front of it.",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        "FORWARDED_ALLOW_IPS",
        _proxies,
        default=("127.0.0.1", "::1"),
        values="* or addresses and networks, separated by commas",
        help="Proxies, beside those at a Unix socket, whose X-Forwarded-For is believed.",
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Return the settings that `environ` gives; raise `SettingsError` for all bad ones."""
        values = {}
        problems = []
        for setting in dataclasses.fields(cls):
            variable = setting.metadata["variable"]
            if variable not in environ:
                continue
            text = environ[variable]
            try:
                values[setting.name] = setting.metadata["parse"](text)
            except ValueError as error:
                shown = _masked(text) if len(text) <= _SHOWN else f"{_masked(text)[:_SHOWN]}…"
                if isinstance(error, _SecretError):
                    shown = "***"
                mistake = f"; {_masked(str(error))}" if isinstance(error, _MistakeError) else ""
                wanted = setting.metadata["values"]
                problems.append(f"{variable}={shown!r}: must be {wanted}{mistake}")
        if problems:
            raise SettingsError("\n".join(problems))
        return cls(**values)

    @property
    def database_path(self) -> Path | None:
        """Return the file of the database, None when it is a server's."""
        if self.database_url is None:
            return self.instance_path / "roster.db"
        scheme, _, path = self.database_url.partition(":///")
        if scheme != "sqlite":
            return None
        # Its locks are beside the file, as SQLite's log is, so that all names of it share them.
        return Path(os.path.realpath(path) if os.path.islink(path) else path)  # noqa: PTH114

    @property
    def database_name(self) -> str:
        """Return the database as messages name it, without a password."""
        path = self.database_path
        return _masked(str(self.database_url)) if path is None else short_path(path)

    @property
    def first_key_path(self) -> Path:
        """Return where the first start leaves the admin key that it makes."""
        return self.instance_path / "admin-key"

    def rows(self, environ: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
        """Yield variable, value, where it came from and help of each setting; no secrets."""
        for setting in dataclasses.fields(self):
            variable = setting.metadata["variable"]
            value = getattr(self, setting.name)
            if variable in environ:
                source = "environment"
            else:
                source = "default" if value == setting.default else "create_app()"
            yield variable, _shown(value), source, setting.metadata["help"]


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each ``ROSTER_*`` variable that is no setting.

    A warning, not an error: orchestrators inject such names (``ROSTER_PORT``) by themselves.
    """
    known = [setting.metadata["variable"] for setting in dataclasses.fields(Settings)]
    sentences = []
    for name in sorted(environ):
        if name.startswith("ROSTER_") and name not in known:
            words = [_OTHER_WORDS[word] for word in name.split("_") if word in _OTHER_WORDS]
            near = words or difflib.get_close_matches(name, known, n=1, cutoff=0)
            sentences.append(f"{name} is no setting of Roster and is ignored; nearest: {near[0]}.")
    return sentences


def short_path(path: Path) -> str:
    """Return `path` as a person in the current folder would type it, a relative one whole.

    A reader of the log does not know which folder a relative one begins in.
    """
    here = Path.cwd()
    if not path.is_absolute():
        return str(path.resolve())
    if here == Path("/") or not path.is_relative_to(here):
        return str(path)
    return str(path.relative_to(here))


def _shown(value: object) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return short_path(value) if isinstance(value, Path) else _masked(str(value))


def _masked(text: str) -> str:
    return _KEY.sub(r"\1***", _PASSWORD.sub(r"\1\3***\2", text))


def environment_settings() -> Settings:
    """Return the settings of this process's environment."""
    return Settings.from_environment(os.environ)
