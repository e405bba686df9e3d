"""The settings: what each takes, what it refuses, and how they are shown."""

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from gunicorn.config import validate_string_to_addr_list

from app.catalog.keys import mint
from app.settings import (
    Settings,
    SettingsError,
    environment_settings,
    short_path,
    unknown_variables,
)
from app.store.store import Store

ROOT = Path(__file__).parent.parent

EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"

#: What a refusal says that each variable may be, and values that are not.
REFUSED = {
    "ROSTER_INSTANCE_PATH": ("a folder", [""]),
    "ROSTER_DATABASE_URL": (
        "sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME",
        [
            "",
            "roster.db",
            "sqlite://",
            "sqlite:///",
            "sqlite:///:memory:",
            "sqlite:///a.db?mode=ro",
            "postgresql:/db/roster",
            "postgresql+psycopg://db/roster",
            "postgresql://db/ros ter",
            "postgresql://db/roster#x",
            "postgresql://d\u00fc/roster",
            " sqlite:///a.db",
        ],
    ),
    "ROSTER_AUTH": ("optional, required or off", ["", "Required", "on", "true"]),
    "ROSTER_PUBLIC_KEYS": (
        "ASCII words of fewer than 32 characters, separated by commas, and no keys",
        ["schl\u00fcssel", "EMPTY,a\x7fb"],
    ),
    "ROSTER_ADMIN_KEY_FILE": ("a file with the key, not the key itself", [""]),
    "ROSTER_FIELDS": ("all or reference", ["", "ALL", "id,object"]),
    "ROSTER_CORS_ORIGINS": (
        "* or origins, separated by commas",
        ["https://", "://a.example", "https://a.example:65536/", "https://a@b", "https://a:b"],
    ),
    "ROSTER_BIND": (
        "HOST:PORT or unix:PATH",
        [
            "",
            "8000",
            ":8000",
            "127.0.0.1",
            "127.0.0.1:65536",
            "127.0.0.1:http",
            "127.0.0.1:८०००",
            "unix:",
            "a b:1",
        ],
    ),
    "WEB_CONCURRENCY": ("1 to 64 processes", ["", "0", "65", "-1", "2.0", "two", "٣", "9" * 10]),
    "ROSTER_THREADS": ("1 to 64 threads", ["", "0", "65", "+4", " 4", "4\n", "0x4"]),
    "ROSTER_KEEPALIVE": ("1 to 3600 seconds", ["", "0", "3601", "75s", "1.5"]),
    "FORWARDED_ALLOW_IPS": (
        "* or addresses and networks, separated by commas",
        ["localhost", "10.0.0", "127.0.0.1, x", "127.0.0.1 ::1", "::1, ,::1"],
    ),
}


@pytest.mark.parametrize(
    ("variable", "values", "text"),
    [(name, values, text) for name, (values, texts) in REFUSED.items() for text in texts],
)
def test_bad_value(variable: str, values: str, text: str) -> None:
    """A bad value is refused by a line with the variable, the value and what it may be."""
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({variable: text})

    assert f"{variable}={text!r}: must be {values}" == str(refusal.value)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            "https://Chat.example.com:443/",
            "'https://Chat.example.com:443/' ends with a slash: write https://chat.example.com",
        ),
        (
            "app://obsidian.md//",
            "'app://obsidian.md//' ends with a slash: write app://obsidian.md",
        ),
        (
            "tauri://localhost, https://a.example/chat?x",
            "'https://a.example/chat?x' has a path: write https://a.example",
        ),
        (
            "chat.example.com",
            "'chat.example.com' has no scheme: write https:// or http:// before it",
        ),
        (
            "localhost:3000/",
            "'localhost:3000/' has no scheme: write https:// or http:// before it",
        ),
        (
            "null",
            "'null' is not allowed: files and sandboxed pages of any site have it as their origin",
        ),
        (
            "* https://a.example",
            "'*' is every page: write it alone, or write each origin",
        ),
        (
            "https://*.example.com",
            "'https://*.example.com' has a *: write it alone for every page, or write each origin",
        ),
        (
            "https://b\u00fccher.example",
            "'https://b\u00fccher.example' is not ASCII: write the host as browsers do, xn--…",
        ),
    ],
)
def test_the_mistake_in_an_origin_is_named(text: str, mistake: str) -> None:
    """A refused list of origins names the first that is none, and what to write."""
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({"ROSTER_CORS_ORIGINS": text})

    values, _ = REFUSED["ROSTER_CORS_ORIGINS"]
    assert f"ROSTER_CORS_ORIGINS={text!r}: must be {values}; {mistake}" == str(refusal.value)


def test_the_mistake_in_an_origin_is_short_and_has_no_key() -> None:
    """Whatever is repeated is cut, and a key or password in it is masked."""
    key = mint()
    for text in (f"https://a.example/{key}", f"https://a:{key}@b/", "https://a:hunter2@b/"):
        with pytest.raises(SettingsError) as refusal:
            Settings.from_environment({"ROSTER_CORS_ORIGINS": text})
        assert not {key, key[12:], "hunter2"} & {*re.split(r"[_@:'/; ]", str(refusal.value))}
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({"ROSTER_CORS_ORIGINS": f"https://{'x' * 999}/"})

    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("before", ["", " ", "Bearer ", "'", "x" * 80])
@pytest.mark.parametrize("cut", [0, 1, 30])
@pytest.mark.parametrize(
    "variable", ["ROSTER_ADMIN_KEY_FILE", "ROSTER_BIND", "ROSTER_AUTH", "ROSTER_PUBLIC_KEYS"]
)
def test_a_key_in_the_place_of_a_value_is_masked(variable: str, before: str, cut: int) -> None:
    """Whoever gives the key itself is told that a file is wanted, and nobody reads the key."""
    key = mint()
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({variable: before + key[: len(key) - cut] + "\n"})

    assert f"{key[:12]}***" in str(refusal.value)
    assert key[:13] not in str(refusal.value)
    if variable == "ROSTER_ADMIN_KEY_FILE":
        assert str(refusal.value).endswith(": must be a file with the key, not the key itself")


def test_the_key_of_another_vendor_is_not_repeated() -> None:
    """Nothing is shown of a long name without a folder, nor of a long word for a placeholder."""
    with pytest.raises(SettingsError) as word:
        Settings.from_environment({"ROSTER_PUBLIC_KEYS": "EMPTY," + "x" * 32})
    assert str(word.value).startswith("ROSTER_PUBLIC_KEYS='***': must be ASCII words of fewer ")

    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({"ROSTER_ADMIN_KEY_FILE": "sk-proj-" + "x1Y2" * 10})
    short = Settings.from_environment({"ROSTER_ADMIN_KEY_FILE": "admin-key"})

    assert str(refusal.value).startswith("ROSTER_ADMIN_KEY_FILE='***': must be a file with the")
    assert "admin-key" == str(short.admin_key_file)


def test_all_bad_values() -> None:
    """One error names every bad value, in the order of the settings."""
    environ = {variable: texts[0] for variable, (_, texts) in REFUSED.items()}

    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment(environ)

    assert list(REFUSED) == [line.partition("=")[0] for line in str(refusal.value).splitlines()]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql://roster:hunter2@db/x", "mysql://roster:***@db/x"),
        ("mysql://roster:hun@ter2@db/x", "mysql://roster:***@db/x"),
        ("postgresql://roster:hun@ter2@db/x", "postgresql://roster:***@db/x"),
        ("postgresql://roster:hun ter2@db/x", "postgresql://roster:***@db/x"),
        ("postgresql://roster:hun#ter2@db/x", "postgresql://roster:***@db/x"),
        ("postgresql://roster:hun/ter2@db/x", "postgresql://roster:***@db/x"),
        ("mysql://db/x?password=hunter2&a=b", "mysql://db/x?password=***&a=b"),
    ],
)
def test_bad_value_with_password(url: str, shown: str) -> None:
    """A refused value is shown without the password in it."""
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({"ROSTER_DATABASE_URL": url})

    said = f"ROSTER_DATABASE_URL='{shown}': must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
    hint = "; in user and password, characters such as @, :, /, ? and # are written as %40, %3A, "
    assert said + f"{hint}%2F, %3F and %23" * url.startswith("postgresql") == str(refusal.value)


@pytest.mark.parametrize(("length", "shown"), [(100, "x" * 100), (101, "x" * 100 + "…")])
def test_long_bad_value(length: int, shown: str) -> None:
    """Of a refused value, 100 characters are shown."""
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({"ROSTER_AUTH": "x" * length})

    assert f"ROSTER_AUTH='{shown}': must be optional, required or off" == str(refusal.value)


@pytest.mark.parametrize(
    ("variable", "text", "name", "expected"),
    [
        ("ROSTER_INSTANCE_PATH", "data", "instance_path", Path("data")),
        ("ROSTER_DATABASE_URL", "sqlite:////data/a b.db", "database_path", Path("/data/a b.db")),
        ("ROSTER_DATABASE_URL", "postgres://db/x", "database_path", None),
        (
            "ROSTER_DATABASE_URL",
            "postgresql:///x?host=/run",
            "database_name",
            "postgresql:///x?host=/run",
        ),
        (
            "ROSTER_DATABASE_URL",
            "postgresql://u:p%40@[::1]:1/x",
            "database_name",
            "postgresql://u:***@[::1]:1/x",
        ),
        ("ROSTER_AUTH", "required", "auth", "required"),
        ("ROSTER_AUTH", "off", "auth", "off"),
        ("ROSTER_PUBLIC_KEYS", "", "public_keys", ()),
        ("ROSTER_PUBLIC_KEYS", "EMPTY, sk-no-key", "public_keys", ("EMPTY", "sk-no-key")),
        ("ROSTER_ADMIN_KEY_FILE", "key", "admin_key_file", Path("key")),
        ("ROSTER_FIELDS", "reference", "reply_fields", "reference"),
        ("ROSTER_CORS_ORIGINS", "", "cors_origins", ()),
        ("ROSTER_CORS_ORIGINS", " * ", "cors_origins", ("*",)),
        (
            "ROSTER_CORS_ORIGINS",
            "https://a.example, http://[::1]:80",
            "cors_origins",
            ("https://a.example", "http://[::1]"),
        ),
        (
            "ROSTER_CORS_ORIGINS",
            "https://Chat.Example.com, https://a.example:443 http://a.example:443,HTTPS://A.EXAMPLE",
            "cors_origins",
            ("https://chat.example.com", "https://a.example", "http://a.example:443"),
        ),
        (
            "ROSTER_CORS_ORIGINS",
            f"app://obsidian.md,tauri://localhost,capacitor://localhost,{EXTENSION},x-a.b+c://d:443",
            "cors_origins",
            (
                "app://obsidian.md",
                "tauri://localhost",
                "capacitor://localhost",
                EXTENSION,
                "x-a.b+c://d:443",
            ),
        ),
        ("ROSTER_BIND", "[::1]:0", "bind", "[::1]:0"),
        ("ROSTER_BIND", "0.0.0.0:65535", "bind", "0.0.0.0:65535"),
        ("ROSTER_BIND", "unix:run/a b.sock", "bind", "unix:run/a b.sock"),
        ("FORWARDED_ALLOW_IPS", "", "trusted_proxies", ()),
        ("FORWARDED_ALLOW_IPS", "*", "trusted_proxies", ("*",)),
        ("FORWARDED_ALLOW_IPS", "10.0.0.0/8, ::1", "trusted_proxies", ("10.0.0.0/8", "::1")),
        ("WEB_CONCURRENCY", "1", "workers", 1),
        ("ROSTER_THREADS", "64", "threads", 64),
        ("ROSTER_KEEPALIVE", "620", "keepalive", 620),
    ],
)
def test_good_value(variable: str, text: str, name: str, expected: object) -> None:
    """A value in range is taken."""
    assert expected == getattr(Settings.from_environment({variable: text}), name)


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1,::1", "", " ", "*", " * ", "10.0.0.0/8 , ::1 ", "*,::1", "::1,", ",", "::1,,::2"],
)
def test_gunicorn_accepts_the_same_proxies(text: str) -> None:
    """gunicorn reads FORWARDED_ALLOW_IPS by itself, and believes the same proxies."""
    settings = Settings.from_environment({"FORWARDED_ALLOW_IPS": text})

    assert validate_string_to_addr_list(text) == list(settings.trusted_proxies)


def test_what_is_shown_is_accepted() -> None:
    """A shown value can be set again, and then means the same."""
    origins = ("https://a.example", "https://b.example")
    settings = Settings(instance_path=Path("/data"), cors_origins=origins, public_keys=("a", "b"))
    shown = {variable: value for variable, value, *_ in settings.rows({}) if value != "-"}

    assert "FORWARDED_ALLOW_IPS" in shown
    assert settings == Settings.from_environment(shown)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the process are those of its environment."""
    monkeypatch.setenv("ROSTER_THREADS", "7")

    assert 7 == environment_settings().threads


def test_defaults() -> None:
    """An empty environment gives the defaults of the contract."""
    settings = Settings.from_environment({})

    assert Settings() == settings
    assert ROOT / "instance" == settings.instance_path
    assert ROOT / "instance" / "roster.db" == settings.database_path
    assert ROOT / "instance" / "admin-key" == settings.first_key_path
    assert ("optional", "all", ()) == (settings.auth, settings.reply_fields, settings.cors_origins)
    assert ("127.0.0.1:8000", 2, 4) == (settings.bind, settings.workers, settings.threads)
    assert (None, ()) == (settings.admin_key_file, settings.public_keys)


@pytest.mark.parametrize("name", ["plain", "a b", "a#b", "a@b", "a%41b", "a?b=c"])
def test_database_of_any_folder(tmp_path: Path, name: str) -> None:
    """The database is roster.db in the instance folder, whatever the folder is called."""
    settings = Settings(instance_path=tmp_path / name)

    store = Store(settings, lambda: 0)
    store.open(create=True)

    assert 1 == store.position().revision
    assert settings.database_path.exists()
    assert [tmp_path / name] == list(tmp_path.iterdir())


def test_frozen() -> None:
    """Settings cannot be changed, and hold nothing but the settings."""
    settings = Settings()

    with pytest.raises(FrozenInstanceError):
        settings.threads = 5
    assert not hasattr(settings, "__dict__")


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row has variable, value, source and help; a dash stands for no value."""
    monkeypatch.chdir(tmp_path)
    environ = {"ROSTER_THREADS": "4", "ROSTER_CORS_ORIGINS": "https://a.example,https://b.example"}
    values = Settings.from_environment(environ)
    settings = Settings(
        instance_path=tmp_path / "data", cors_origins=values.cors_origins, workers=3
    )

    rows = {variable: (value, source) for variable, value, source, _ in settings.rows(environ)}

    assert {
        "ROSTER_INSTANCE_PATH": ("data", "create_app()"),
        "ROSTER_DATABASE_URL": ("-", "default"),
        "ROSTER_AUTH": ("optional", "default"),
        "ROSTER_OLLAMA_AUTH": ("-", "default"),
        "ROSTER_PUBLIC_KEYS": ("-", "default"),
        "ROSTER_ADMIN_KEY_FILE": ("-", "default"),
        "ROSTER_FIELDS": ("all", "default"),
        "ROSTER_CORS_ORIGINS": ("https://a.example,https://b.example", "environment"),
        "ROSTER_MAX_STALE": ("-", "default"),
        "ROSTER_CACHE_BYTES": ("268435456", "default"),
        "ROSTER_BIND": ("127.0.0.1:8000", "default"),
        "WEB_CONCURRENCY": ("3", "create_app()"),
        "ROSTER_THREADS": ("4", "environment"),
        "ROSTER_KEEPALIVE": ("75", "default"),
        "FORWARDED_ALLOW_IPS": ("127.0.0.1,::1", "default"),
    } == rows
    assert all(meaning.endswith(".") for *_, meaning in settings.rows(environ))


def test_rows_mask_passwords() -> None:
    """A password in the address of a database is not shown."""
    settings = Settings(database_url="postgresql://roster:hunter2@db/roster")

    shown = {variable: value for variable, value, *_ in settings.rows({})}

    assert "postgresql://roster:***@db/roster" == shown["ROSTER_DATABASE_URL"]


def test_unknown_variables() -> None:
    """Each unknown ROSTER_ variable is named with the nearest setting; others are not ours."""
    environ = {"ROSTER_THREDS": "1", "ROSTER_AUTH": "off", "ROSTER_": "", "PATH": "x"}

    first, second = unknown_variables(environ)

    assert first.startswith("ROSTER_ is no setting of Roster and is ignored; nearest: ROSTER_")
    assert (
        "ROSTER_THREDS is no setting of Roster and is ignored; nearest: ROSTER_THREADS." == second
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ROSTER_PORT", "ROSTER_BIND"),
        ("ROSTER_HOST", "ROSTER_BIND"),
        ("ROSTER_SERVICE_PORT_HTTP", "ROSTER_BIND"),
        ("ROSTER_WORKERS", "WEB_CONCURRENCY"),
        ("ROSTER_DB_URL", "ROSTER_DATABASE_URL"),
        ("ROSTER_DATA_DIR", "ROSTER_INSTANCE_PATH"),
        ("ROSTER_TRUSTED_PROXIES", "FORWARDED_ALLOW_IPS"),
        ("ROSTER_KEEP_ALIVE", "ROSTER_KEEPALIVE"),
        ("ROSTER_ADMIN_KEY", "ROSTER_ADMIN_KEY_FILE"),
    ],
)
def test_nearest_setting(name: str, nearest: str) -> None:
    """Of a variable that is no setting, the one of the same meaning is named."""
    assert [f"{name} is no setting of Roster and is ignored; nearest: {nearest}."] == (
        unknown_variables({name: "x"})
    )


def test_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path below the current folder is shown relative, any other one whole.

    So is a path that was given from the current folder, which is another one for who reads it.
    """
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    assert str(tmp_path / "here" / "data") == short_path(Path("data"))

    assert "a/b" == short_path(tmp_path / "here" / "a" / "b")
    assert str(tmp_path / "c") == short_path(tmp_path / "c")


@pytest.mark.parametrize("name", ["settings.py", "logs.py"])
def test_runs_alone(name: str) -> None:
    """The files that gunicorn's master runs import nothing of the application or of others."""
    program = (
        "import runpy, sys\n"
        "before = set(sys.modules)\n"
        f"runpy.run_path({str(ROOT / 'app' / name)!r})\n"
        "added = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(added - sys.stdlib_module_names))\n"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )

    assert "[]\n" == done.stdout


def test_refuses_alone() -> None:
    """Run by itself, the file gives settings and refuses bad ones like the imported one."""
    program = (
        "import runpy\n"
        f"alone = runpy.run_path({str(ROOT / 'app' / 'settings.py')!r})\n"
        "print(alone['environment_settings']().threads)\n"
        "try:\n"
        "    alone['Settings'].from_environment({'ROSTER_THREADS': '0'})\n"
        "except alone['SettingsError'] as error:\n"
        "    print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        env={"ROSTER_THREADS": "9"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "9\nROSTER_THREADS='0': must be 1 to 64 threads\n" == done.stdout
