"""The pages for people: their blocks of code, their tables and their links."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: By name as in the repository, the text of each page that this project keeps true.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
}


def blocks(page, language):
    """Return the blocks of a page that are in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)


def steps(page):
    """Yield each command of the console blocks, with the output that the page shows."""
    for block in blocks(page, "console"):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            yield command, output


def section(page, title):
    """Return the text below a heading, up to the next one of any level."""
    [text] = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGES[page], re.DOTALL | re.M)
    return text


def tables(page, title):
    """Return the rows of the tables below a heading, each a list of its cells."""
    parts = re.split(r"^\| .*\n\|[-|]+\n", section(page, title), flags=re.MULTILINE)[1:]
    lines = [line for part in parts for line in part.splitlines() if line.startswith("| ")]
    return [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]


def code(text):
    """Return what a text has in backticks."""
    return re.findall(r"`([^`]*)`", text)


def examples(title):
    """Return the example of each field of a table of `docs/fields.md`, by name."""
    rows = tables("docs/fields.md", title)
    return {code(name)[0]: json.loads(*code(example)) for name, _, _, _, example, _ in rows}


def anchors(page):
    """Return what a link into a page may name: its headings, as GitHub writes them, and ids."""
    headings = re.findall(r"^#+ (.*)$", PAGES[page], re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
    return slugs | set(re.findall(r'<a id="([\w-]+)">', PAGES[page]))


def same_everywhere(text):
    """Replace what differs from run to run, and nothing else."""
    text = re.sub(r"ro_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", "KEY", text)
    text = re.sub(r"modelperm-[0-9A-Za-z]{24}", "PERMISSION", text)
    text = re.sub(r'"created":\d{10}', '"created":TIME', text)
    text = re.sub(r"created=\d{10}", "created=TIME", text)
    text = re.sub(r'"created_at":"[0-9TZ:-]{20}"', '"created_at":TIME', text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "DATE", text)
    text = re.sub(r'"at":\d{10}', '"at":TIME', text)
    text = re.sub(r"req_[0-9a-f]{24}", "REQUEST", text)
    text = re.sub(r"(?<=key:)[0-9A-Za-z]{8}", "KID", text)
    text = re.sub(r"cli:\S+", "PERSON", text)
    text = re.sub(
        r"^[0-9A-Za-z]{8}(?=  )|(?<=Key )[0-9A-Za-z]{8}", "KID", text, flags=re.MULTILINE
    )
    text = re.sub(r" \(others waited [\d.]+ s\)", "", text)  # only if it was long
    text = re.sub(r" {3,}", "  ", text)  # a column is as wide as its widest cell
    return re.sub(r"\d+ bytes", "SIZE", text)
