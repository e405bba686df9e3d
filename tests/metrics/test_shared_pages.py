"""The last record of each worker stays readable, whoever is killed, and is always whole."""

from app.metrics.shared_pages import PAGE, PAGES, SharedPages, new_memory


def test_a_new_page_is_empty():
    """A page that was never used is empty, and not among those that are read."""
    shared = SharedPages(new_memory())

    assert b"" == shared.read(0)
    assert [] == list(shared.read_all())


def test_the_last_record_is_read():
    """The record that was published last is read, long or short, and whether its worker runs."""
    shared = SharedPages(new_memory())
    pages = [shared.take(), shared.take()]
    for record in (b"first, and long", b"second", b"", b"last"):
        shared.write(pages[1], record)

        assert record == shared.read(pages[1])
    assert [0, 1] == pages
    assert [(b"", False), (b"last", True)] == list(shared.read_all())


def test_a_page_keeps_its_record_for_the_next_worker():
    """The next worker to take a page finds its record, and does not yet count as running."""
    shared = SharedPages(new_memory())
    page = shared.take()
    shared.write(page, b"last")
    shared.release(page)

    assert [(b"last", False)] == list(shared.read_all())
    assert page == shared.take()
    assert [(b"last", False)] == list(shared.read_all())


def test_there_is_an_end_of_pages():
    """When all pages are taken there is none, until one is released."""
    shared = SharedPages(new_memory())

    assert [*range(PAGES), None] == [shared.take() for _ in range(PAGES + 1)]
    shared.release(7)
    assert [7, None] == [shared.take(), shared.take()]


def test_a_record_of_another_format_is_none():
    """Memory that another version has filled in its own format is read as empty, and reused."""
    memory = new_memory()
    memory[:] = b"\2" * len(memory)
    shared = SharedPages(memory)

    assert b"" == shared.read(3)
    shared.write(3, b"new")
    assert b"new" == shared.read(3)


def test_a_killed_writer_leaves_the_record_before():
    """However much of a record was written when its writer was killed, one is read whole."""
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
