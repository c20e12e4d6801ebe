"""`taxond report`: a page that is whole, needs nothing from elsewhere, and shows in a browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from client import job

VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """Counts elements, and minds that each is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.counts, self.targets, self.words = [], {}, [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.targets += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def page(client, taxond, trained, tmp_path):
    """The page of a model with a class whose name is markup, after a merge."""
    names = [c.name for c in client.manifest(trained).classes]
    client.rename(trained, names[0], "<script>alert('x')</script>&")
    client.merge(trained, names[1:3], "both", learn=job.LEARN_FINE_TUNE)
    out = tmp_path / "report.html"
    (told,) = taxond("report", trained, "--out", str(out))
    assert told["file"] == str(out) and told["examples"] > 0 and 0 <= told["accuracy"] <= 1
    return out


def test_a_version_is_chosen_by_option_and_by_name(client, taxond, trained, tmp_path):
    names = [c.name for c in client.manifest(trained).classes]
    client.merge(trained, names[:2], "both", learn=job.LEARN_NONE)
    out = str(tmp_path / "report.html")
    first = f"{trained}/versions/1"
    assert [told["version"] for told in taxond("report", trained, "--version", "1", "--out", out)] == [first]
    for chosen in ([trained, "--version", "1"], [first]):
        (told,) = taxond("evaluate", *chosen)
        assert told["version"] == first
    (told,) = taxond("evaluate", trained, "--alias", "serving")
    assert told["version"] == f"{trained}/versions/2"


def test_the_page_is_whole_and_needs_nothing(page):
    text = page.read_text(encoding="utf-8")
    read = Page(text)
    assert read.targets == []
    assert "script" not in read.counts
    assert read.counts["svg"] >= 4 and read.counts["table"] >= 1
    words = " ".join(read.words)
    assert "<script>alert('x')</script>&" in words
    for heading in ["How sure it is", "What is taken for what", "How it was learnt", "How it came to be", "All classes"]:
        assert heading in words
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no browser here")
def test_a_browser_shows_it_without_a_complaint(page, tmp_path):
    picture = tmp_path / "report.png"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,2600", f"--screenshot={picture}"]
    shown = subprocess.run([*command, page.as_uri()], capture_output=True, encoding="utf-8", timeout=120)
    assert shown.returncode == 0, shown.stderr
    assert "CONSOLE" not in shown.stderr, shown.stderr
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 20_000
