"""Each worker's last record stays readable, whoever dies, and is never half a record."""

from app.metrics.shared_pages import PAGE, PAGES, SharedPages, new_memory


def test_nothing_stands_on_a_new_page():
    """A page that nobody used is empty, and is not read at all."""
    shared = SharedPages(new_memory())

    assert b"" == shared.read(0)
    assert [] == list(shared.read_all())


def test_the_last_record_stands():
    """What was published last is read, long or short, and whether its worker lives."""
    shared = SharedPages(new_memory())
    pages = [shared.take(), shared.take()]
    for record in (b"first, and long", b"second", b"", b"last"):
        shared.write(pages[1], record)

        assert record == shared.read(pages[1])
    assert [0, 1] == pages
    assert [(b"", False), (b"last", True)] == list(shared.read_all())


def test_a_page_is_handed_on_with_its_record():
    """The next to take a page finds what stood there, and does not yet count as alive."""
    shared = SharedPages(new_memory())
    page = shared.take()
    shared.write(page, b"kept")
    shared.leave(page)

    assert [(b"kept", False)] == list(shared.read_all())
    assert page == shared.take()
    assert [(b"kept", False)] == list(shared.read_all())


def test_there_is_an_end_of_pages():
    """When all pages are taken there is none, until one is left."""
    shared = SharedPages(new_memory())

    assert [*range(PAGES), None] == [shared.take() for _ in range(PAGES + 1)]
    shared.leave(7)
    assert [7, None] == [shared.take(), shared.take()]


def test_a_record_of_another_form_is_none():
    """Memory that a version with another form of pages has filled is read as empty, and reused."""
    memory = new_memory()
    memory[:] = b"\2" * len(memory)
    shared = SharedPages(memory)

    assert b"" == shared.read(3)
    shared.write(3, b"new")
    assert b"new" == shared.read(3)


def test_a_writer_that_is_killed_leaves_the_record_before():
    """However much of a record was written when its writer died, one is read whole."""
    memory = new_memory()
    shared = SharedPages(memory)
    page = shared.take()
    for record in (b"one", b"two", b"three"):
        shared.write(page, record)
    before = memory[:]
    shared.write(page, b"the last one")
    after = memory[:]
    # Its bytes are the first and the last one that differ, and those between.
    changed = [at for at in range(PAGES, PAGES + PAGE) if before[at] != after[at]]
    start, end = changed[0], changed[-1] + 1
    for written in range(end - start):
        memory[start:end] = after[start : start + written] + before[start + written : end]

        assert b"three" == shared.read(page)
    memory[start:end] = after[start:end]
    assert b"the last one" == shared.read(page)
