"""The board keeps what each worker published last, whoever dies, and never half of it."""

from app.metrics.board import _HEAD, PAGES, Board, new_memory


def test_nothing_stands_on_a_new_page():
    """A page that nobody used is empty, and is not read at all."""
    board = Board(new_memory())

    assert b"" == board.read(0)
    assert [] == list(board.read_all())


def test_the_last_record_stands():
    """What was published last is read, long or short, and whether its worker lives."""
    board = Board(new_memory())
    pages = [board.take(), board.take()]
    for record in (b"first, and long", b"second", b"", b"last"):
        board.write(pages[1], record)

        assert record == board.read(pages[1])
    assert [0, 1] == pages
    assert [(b"", False), (b"last", True)] == list(board.read_all())


def test_a_page_is_handed_on_with_its_record():
    """The next to take a page finds what stood there, and does not yet count as alive."""
    board = Board(new_memory())
    page = board.take()
    board.write(page, b"kept")
    board.leave(page)

    assert [(b"kept", False)] == list(board.read_all())
    assert page == board.take()
    assert [(b"kept", False)] == list(board.read_all())


def test_there_is_an_end_of_pages():
    """When all pages are taken there is none, until one is left."""
    board = Board(new_memory())

    assert [*range(PAGES), None] == [board.take() for _ in range(PAGES + 1)]
    board.leave(7)
    assert [7, None] == [board.take(), board.take()]


def test_a_record_of_another_form_is_none():
    """Memory that a version with another form of pages has filled is read as empty, and reused."""
    memory = new_memory()
    memory[:] = b"\2" * len(memory)
    board = Board(memory)

    assert b"" == board.read(3)
    board.write(3, b"new")
    assert b"new" == board.read(3)


def test_a_writer_that_is_killed_leaves_the_record_before():
    """However much of a record was written when its writer died, one is read whole."""
    memory = new_memory()
    board = Board(memory)
    page = board.take()
    for record in (b"one", b"two", b"three"):
        board.write(page, record)
    before = memory[:]
    board.write(page, b"the last one")
    after = memory[:]
    end = after.index(b"the last one") + len(b"the last one")
    start = after.index(b"the last one") - _HEAD.size
    for written in range(end - start):
        memory[start:end] = after[start : start + written] + before[start + written : end]

        assert b"three" == board.read(page)
    memory[start:end] = after[start:end]
    assert b"the last one" == board.read(page)
