"""Links between the documents lead somewhere: files that are there, and headings in them."""

import re
import subprocess

import pytest
from conftest import HERE

TREE = HERE.parent.parent
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"|<source [^>]*srcset=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def documents():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=TREE, capture_output=True, check=True)
    return sorted(listed.stdout.decode().split())


@pytest.mark.parametrize("document", documents())
def test_links_lead_somewhere(document):
    path = TREE / document
    wrong = []
    for target in links(path.read_text(encoding="utf-8")):
        file, _, heading = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists():
            wrong.append(f"{target}: no such file")
        elif not there.is_relative_to(TREE):
            wrong.append(f"{target}: not in this tree")
        elif heading and heading not in anchors(there.read_text(encoding="utf-8")):
            wrong.append(f"{target}: no such heading")
    assert not wrong, "\n".join(wrong)


def links(text):
    """The targets within the tree."""
    found = ("".join(match) for match in LINK.findall(FENCED.sub("", text)))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text):
    """What git hosts make of the headings: lower case, no punctuation, dashes for spaces, a number where one comes again."""
    found = []
    for heading in HEADING.findall(FENCED.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        again = sum(other == anchor for other in found)
        found.append(f"{anchor}-{again}" if again else anchor)
    return found


def test_a_dead_link_is_found_and_code_is_not_looked_at():
    text = "[a](x.md#b) ![c](d.svg) [e](https://f.example)\n```sh\n[g](h)\n```\n# I, `j` & [k](l)\n## I, j\n## I, j\n"
    assert links(text) == ["x.md#b", "d.svg", "l"]
    assert anchors(text) == ["i-j--k", "i-j", "i-j-1"]
