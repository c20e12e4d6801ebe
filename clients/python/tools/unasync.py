"""Makes `taxond.sync` of `taxond.aio`, so that the two say the same: python tools/unasync.py [--check]"""

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "taxond"
BY_HAND = {"__init__.py", "calls.py"}
RULES = [
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b__a(iter|enter|exit)__", r"__\1__"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bimport asyncio\b", "import time"),
    # `await` goes, and so do the parentheses that it needed.
    (r"return \((self\._calls\.\w+\([^\n]*\))\)\.(\w+)$", r"return \1.\2"),
    (r"from collections.abc import Iterator, Iterator\b", "from collections.abc import Iterator"),
    (r"from collections.abc import Iterator, Callable, Iterator\b", "from collections.abc import Callable, Iterator"),
    (r"from collections.abc import Iterator, Iterable, Iterator\b", "from collections.abc import Iterable, Iterator"),
]


def blocking(text: str) -> str:
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def main() -> int:
    differ = []
    for source in sorted((PACKAGE / "aio").glob("*.py")):
        if source.name in BY_HAND:
            continue
        target = PACKAGE / "sync" / source.name
        text = blocking(source.read_text(encoding="utf-8"))
        if "--check" not in sys.argv:
            target.write_text(text, encoding="utf-8")
        elif not target.is_file() or target.read_text(encoding="utf-8") != text:
            differ.append(target.name)
    if differ:
        print(f"taxond.sync differs from taxond.aio in {', '.join(differ)}: run python tools/unasync.py")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
