"""What is beside the database: files of ours, whatever lies there under their names."""

import codecs
import contextlib
import ctypes
import errno
import fcntl
import mmap
import multiprocessing
import os
import platform
import re
import resource
import stat
import struct
import tempfile
from pathlib import Path

import pytest

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.keys import mint
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.settings import Settings
from app.store.files import check_own, lacking
from app.store.first_key import _read
from app.store.sqlite.connection import journal_mode
from app.store.sqlite.locks import try_lock
from app.store.store import Store
from tests.writing import write

NOW = 1_800_000_000
#: Of a user and a group that this machine need not know.
STRANGER = 54321
NAMES = [
    "roster.db",
    "roster.db.lock",
    "roster.db.lock.next",
    "roster.db.users",
    "roster.db.writes",
    "admin-key",
]
SQLITE = ["roster.db-wal", "roster.db-shm", "roster.db-journal"]
fork = multiprocessing.get_context("fork")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def folder(settings):
    """The instance folder, which is there before the first start."""
    settings.instance_path.mkdir(mode=0o750)
    return settings.instance_path


@pytest.fixture
def store(settings, clock):
    store = Store(settings, clock)
    yield store
    store.close()


@pytest.fixture
def secret(tmp_path):
    """A file elsewhere that nobody but its owner may read."""
    path = tmp_path / "secret"
    path.write_text("x" * 64)
    path.chmod(0o600)
    return path


def put(store, *ids):
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for model_id in ids:
            write(transaction, Model.compose({"id": model_id}, now=NOW))


def restore(store, backup):
    return store.restore(backup, actor=Actor("test"))


def ids(store):
    return [model.id for model in store.load().models]


def refusal(call, error=StoreRefused):
    with pytest.raises(error) as refused:
        call()
    return refused.value.reason


def use(store):
    """Do what needs each of the files."""
    store.open(create=True)
    put(store, "x")
    store.close()


def as_stranger(work):
    """Do some work as another user; return what it returns."""
    results = fork.Queue()

    def run():
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        results.put(work())

    process = fork.Process(target=run)
    process.start()
    result = results.get(timeout=60)
    process.join()
    return result


def symbolic_link(path, secret):
    path.symlink_to(secret)


def hard_link(path, secret):
    os.link(secret, path)


def pipe(path, _):
    os.mkfifo(path, 0o600)


def folder_in_its_place(path, _):
    path.mkdir()


def of_a_stranger(path, _):
    path.touch(0o666)
    os.chown(path, STRANGER, STRANGER)


#: What may have a name of ours, and its error.
PLANTED = {
    symbolic_link: "is a symbolic link",
    hard_link: "has a second name",
    pipe: "is no regular file",
    folder_in_its_place: "is no regular file|Is a directory",
    of_a_stranger: f"belongs to user {STRANGER}",
}


@pytest.mark.parametrize("name", [*NAMES, *SQLITE])
@pytest.mark.parametrize(
    "plant",
    [*list(PLANTED)[:-1], pytest.param(of_a_stranger, marks=root_only)],
)
def test_other_files_under_our_names_are_refused(store, folder, secret, name, plant):
    """A link, a pipe, a folder or a stranger's file stops a start and stays as it is."""
    plant(folder / name, secret)
    before = (folder / name).lstat()
    refused = refusal(lambda: use(store), StoreUnavailable)

    assert re.search(PLANTED[plant], refused), refused
    assert name in refused
    after = (folder / name).lstat()
    assert (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)
    assert ("x" * 64, 0o600) == (secret.read_text(), stat.S_IMODE(secret.stat().st_mode))


@pytest.mark.parametrize("name", ["roster.db.lock", "roster.db.lock.next", "roster.db.writes"])
def test_a_running_process_follows_no_link(store, folder, secret, name):
    """A lock that becomes a link while a process runs stops its writes, and reads go on."""
    use(store)
    put(store, "y")
    (folder / name).unlink()
    (folder / name).symlink_to(secret)

    assert "is a symbolic link" in refusal(lambda: put(store, "z"))
    assert ["x", "y"] == ids(store)
    assert "x" * 64 == secret.read_text()


def test_a_database_that_becomes_a_link_is_not_followed(store, folder, clock, monkeypatch):
    """Where the database is replaced by a link to another, the link is refused."""
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)
    use(store)
    other = Store(Settings(instance_path=folder.parent / "other"), clock)
    use(other)
    (folder / "roster.db").unlink()
    (folder / "roster.db").symlink_to(folder.parent / "other" / "roster.db")

    assert "is a symbolic link" in refusal(store.position)


def test_a_link_that_a_setting_names_is_followed(tmp_path, clock):
    """All who name the same database, by whatever link, share its locks."""
    (tmp_path / "data").mkdir()
    file, link = tmp_path / "data" / "real.db", tmp_path / "link.db"
    link.symlink_to(file)
    first, second = (
        Store(Settings(instance_path=tmp_path / "i", database_url=f"sqlite:///{path}"), clock)
        for path in (link, file)
    )
    first.open(create=True)
    put(first, "x")
    second.open()

    assert ["x"] == ids(second)
    assert ["data", "i", "link.db"] == sorted(path.name for path in tmp_path.iterdir())
    first.backup(tmp_path / "backup.db")
    first.close()
    assert "Servers or commands" in refusal(lambda: restore(first, tmp_path / "backup.db"))
    second.close()
    restore(first, tmp_path / "backup.db")
    assert link.is_symlink()
    assert ["x"] == ids(second)
    first.close()
    second.close()


def test_files_are_for_their_owner_and_group(store, settings):
    """Others on the host may open neither the folder nor one of its files."""
    mask = os.umask(0)
    try:
        store.open(create=True)
        put(store, "x")
    finally:
        os.umask(mask)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.instance_path.iterdir()
    }

    assert 0o600 == modes.pop("admin-key")
    assert {0o640} == set(modes.values()), modes
    assert 0o750 == stat.S_IMODE(settings.instance_path.stat().st_mode)


@root_only
def test_a_stranger_holds_no_lock(store, folder):
    """Where others may enter the folder, as in a checkout, they hold up nobody."""
    folder.chmod(0o755)
    for parent in (folder.parent, *folder.parent.parents[:3]):
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):  # noqa: S108
            parent.chmod(0o755)
    use(store)

    def hold():
        held = []
        for path in folder.iterdir():
            with contextlib.suppress(PermissionError), path.open("rb") as file:
                try_lock(file.fileno(), fcntl.LOCK_EX)
                held.append(path.name)
        return held

    assert [] == as_stranger(hold)


def test_a_start_warns_of_what_others_may_do(store, folder, clock, caplog):
    """Files that others may read are named, with the chmod, and stay as they are."""
    use(store)
    (folder / "roster.db.users").chmod(0o644)
    (folder / "roster.db.schema-2").touch(0o604)
    (folder / "notes").touch(0o644)
    again = Store(Settings(instance_path=folder), clock)
    again.open(create=True)
    again.close()

    names = f"{folder}/roster.db.schema-2 {folder}/roster.db.users"
    assert [f"Others on this host may read, or lock: 'chmod o= {names}'"] == caplog.messages
    assert 0o644 == stat.S_IMODE((folder / "roster.db.users").stat().st_mode)


@pytest.mark.parametrize("step", ["link", "replace"])
def test_a_restore_that_is_killed_leaves_one_database(store, folder, clock, tmp_path, step):
    """Killed between its steps, a restore leaves what was there, under no second name."""
    use(store)
    store.backup(tmp_path / "backup.db")
    put(store, "y")
    store.close()

    def restore_and_die():
        link = os.link
        if step == "link":  # the copy has two names
            os.link = lambda source, target: (link(source, target), os._exit(9))
        else:  # the database has two
            Path.replace = lambda *_: os._exit(9)
        restore(store, tmp_path / "backup.db")

    process = fork.Process(target=restore_and_die)
    process.start()
    process.join()
    assert 9 == process.exitcode
    reopened = Store(Settings(instance_path=folder), clock)
    reopened.open(create=True)

    assert ["x", "y"] == ids(reopened)
    assert [] == list(folder.glob("*restor*"))
    reopened.close()
    restore(store, tmp_path / "backup.db")
    assert ["x"] == ids(store)
    assert 1 == (folder / "roster.db").stat().st_nlink


def test_a_lost_lock_of_users_does_not_hide_them(store, settings, clock, tmp_path):
    """Without roster.db.users a restore sees by SQLite's own lock that the database is open."""
    use(store)
    store.backup(tmp_path / "backup.db")
    store.close()
    barrier = fork.Barrier(2)

    def read_and_wait():
        reader = Store(settings, clock)
        reader.position()
        barrier.wait(60)
        barrier.wait(60)

    process = fork.Process(target=read_and_wait)
    process.start()
    barrier.wait(60)
    (settings.instance_path / "roster.db.users").unlink()
    sentence = "Servers or commands have the database open: stop them, then try again."

    assert sentence == refusal(lambda: restore(store, tmp_path / "backup.db"))
    barrier.wait(60)
    process.join()
    assert 1 == restore(store, tmp_path / "backup.db").entries


# A folder that cannot be used


@root_only
@pytest.mark.parametrize(("mode", "name"), [(0o750, "roster.db"), (0o755, "roster.db.lock.next")])
def test_a_folder_of_another_user_is_named(clock, mode, name):
    """Who may not enter a folder, or make files in it, reads whose it is and its mode."""
    with tempfile.TemporaryDirectory() as made:  # those of pytest are closed themselves
        Path(made).chmod(mode)
        store = Store(Settings(instance_path=Path(made)), clock)
        refused = as_stranger(lambda: refusal(lambda: use(store), StoreUnavailable))

    assert (
        f"{made}/{name} cannot be opened or made by user {STRANGER}: {made} belongs to user 0 and "
        f"group 0, with mode {mode:04o}."
    ) == refused


@root_only
def test_a_file_of_another_user_of_the_group_is_named():
    """Under another user of the same group, as OpenShift may start it, the owner is named."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        file = Path(made) / "roster.db"
        file.touch(0o660)
        refused = as_stranger(lambda: refusal(lambda: check_own(file)))

    assert (
        f"{file} belongs to user 0, not to user {STRANGER}: run this as that user (in Kubernetes, "
        f"'runAsUser: 0'), or as root run 'chown -h {STRANGER} {file}'."
    ) == refused


@root_only
def test_a_key_file_of_another_user_is_named():
    """Who may not read the operator's key reads whose it is and its mode."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        key = Path(made) / "key"
        key.touch(0o600)
        settings = Settings(admin_key_file=key)
        refused = as_stranger(lambda: refusal(lambda: _read(key, settings)))

    assert (
        f"The admin key cannot be read from {key}: {key} cannot be opened or made by user "
        f"{STRANGER}: {key} belongs to user 0 and group 0, with mode 0600."
    ) == refused


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_a_key_file_with_a_byte_order_mark_is_refused(tmp_path, clock, mark):
    """It is no key, and what the editor has written before it is invisible."""
    key = tmp_path / "key"
    key.write_bytes(mark + mint().encode())
    store = Store(Settings(instance_path=tmp_path / "i", admin_key_file=key), clock)

    assert (
        f"The admin key cannot be read from {key}: it begins with a byte order mark. Save it as "
        "plain text, in ASCII."
    ) == refusal(lambda: use(store))


def refuse_system_call(number, error, *, shared=False):
    """Let a system call of this process fail; of mmap, those of files that are `shared`."""
    load, equal, any_bit, leave = 0x20, 0x15, 0x45, 0x06
    flags = [(load, 0, 0, 40), (any_bit, 0, 2, mmap.MAP_SHARED), (any_bit, 1, 0, mmap.MAP_ANON)]
    program = [
        (load, 0, 0, 0),
        (equal, 0, 4 if shared else 1, number),
        *(flags if shared else []),
        (leave, 0, 0, 0x50000 | error),  # SECCOMP_RET_ERRNO
        (leave, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    prctl = ctypes.CDLL(None).prctl
    assert 0 == prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    assert 0 == prctl(22, 2, ctypes.create_string_buffer(header))  # PR_SET_SECCOMP, FILTER


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
@pytest.mark.parametrize(
    ("call", "error", "need"),
    [(9, errno.ENODEV, "shared memory maps"), (73, errno.EOPNOTSUPP, "locks")],
)
def test_a_folder_whose_file_system_lacks_something_is_named(store, folder, call, error, need):
    """Where mmap or flock fail, as on FUSE, SMB and NFS, the folder and two ways out are named.

    The kernel is made to refuse the call: no such file system can be mounted everywhere.
    """
    if need != "locks" and journal_mode() != "wal":
        pytest.skip("this SQLite needs no shared memory maps: it has the WAL-reset bug")
    results = fork.Queue()

    def run():
        refuse_system_call(call, error, shared=need != "locks")
        results.put([refusal(lambda: use(store), StoreUnavailable) for _ in range(2)])

    process = fork.Process(target=run)
    process.start()
    refused = results.get(timeout=60)
    process.join()

    sentence = (
        f"The file system of the folder {folder} has no {need} ([Errno {error}] "
        f"{os.strerror(error)}): many of FUSE, SMB and NFS have none. Put the database on a local "
        "disk, with ROSTER_INSTANCE_PATH, or into PostgreSQL, with ROSTER_DATABASE_URL."
    )

    assert [sentence, sentence] == refused
    use(store)  # nothing that was left there is in the way


def test_a_process_without_free_descriptors_blames_no_file_system(folder):
    """What cannot be tried out, for another reason, is not said to be missing."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        found = lacking(folder, maps=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert found is None


# What killed processes leave

LEFT = [f".roster-a1b2c3d4.draft{companion}" for companion in ("", "-journal", "-wal", "-shm")]
OTHERS = [".roster-settings", "a1b2c3d4.draft", "x.roster-a1b2c3d4.draft", "roster.db.schema-2"]


def age(path, seconds):
    then = path.lstat().st_mtime - seconds
    os.utime(path, (then, then), follow_symlinks=False)


def test_a_start_removes_the_drafts_of_killed_processes(store, folder, tmp_path, clock, caplog):
    """What was left for a day goes, beside the database too, with a line for each; no more."""
    store.open(create=True)
    for path in [folder / name for name in [*LEFT, *OTHERS]]:
        path.write_text("")
        path.chmod(0o600)
        age(path, 86_500)
    (folder / ".roster-00000000.draft").write_text("in use")
    (folder / ".roster-00000001.draft").mkdir()
    (folder / ".roster-00000002.draft").symlink_to(tmp_path)
    age(folder / ".roster-00000002.draft", 86_500)
    kept = sorted([*OTHERS, *(f".roster-0000000{number}.draft" for number in range(3))])
    Store(Settings(instance_path=folder), clock).open()
    assert "" == caplog.text
    elsewhere = Settings(
        instance_path=tmp_path / "elsewhere", database_url=f"sqlite:///{folder}/roster.db"
    )
    Store(elsewhere, clock).open(create=True)

    left = sorted(path.name for path in folder.iterdir())
    assert kept == [name for name in left if name in (*LEFT, *kept)]
    assert sorted(
        f"Removed {folder / name}: a process was killed before it had." for name in LEFT
    ) == sorted(caplog.messages)


@pytest.mark.parametrize("work", ["backup", "restore"])
def test_what_a_killed_command_leaves_is_recognised(store, folder, tmp_path, clock, work):
    """The whole copy of a killed command goes after a day, by a start or a backup beside it."""
    use(store)
    store.backup(tmp_path / "backup.db")
    store.close()

    def die():
        os.link = lambda *_: os._exit(9)  # when the copy is whole
        if work == "backup":
            store.backup(tmp_path / "copy.db")
        else:
            restore(store, tmp_path / "backup.db")

    process = fork.Process(target=die)
    process.start()
    process.join()
    [left] = (folder if work == "restore" else tmp_path).glob(".roster-*.draft")
    assert left.stat().st_size > 4096
    age(left, 86_500)
    again = Store(Settings(instance_path=folder), clock)
    again.open(create=True)
    assert left.exists() == (work == "backup")
    again.backup(tmp_path / "next.db")
    again.close()

    assert not left.exists()


# Root on the files of others


@root_only
@pytest.mark.parametrize("given", ["folder", "database"])
def test_root_makes_nothing_among_the_files_of_another_user(folder, settings, clock, given):
    """Root is refused where its files would lock the owner out, with the line to type."""
    store = Store(settings, clock)
    use(store)
    os.chown(folder if given == "folder" else folder / "roster.db", STRANGER, 4321)
    before = sorted(path.name for path in folder.iterdir())
    backup = folder.parent / "backup.db"
    for call in (
        store.position,
        store.schema,
        lambda: store.open(create=True),
        lambda: store.backup(backup),
        lambda: restore(store, backup),
    ):
        refused = refusal(call)

        assert (
            f"belongs to user {STRANGER}, not to user 0: run this as that user, with " in refused
        )
        assert f"'setpriv --reuid={STRANGER} --regid=4321 --clear-groups " in refused
    assert before == sorted(path.name for path in folder.iterdir())


@root_only
def test_root_makes_no_database_in_the_folder_of_another_user(folder, settings, clock):
    """Nor is the first file made there, by whatever command; root's own folder is root's."""
    os.chown(folder, STRANGER, STRANGER)
    store = Store(settings, clock)
    for call in (lambda: store.open(create=True), store.schema, lambda: restore(store, folder)):
        assert f"belongs to user {STRANGER}" in refusal(call)

    assert [] == list(folder.iterdir())
    os.chown(folder, 0, 0)
    use(store)
