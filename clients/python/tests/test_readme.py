"""The README's Python, block by block, as a reader would run it."""

import re
from pathlib import Path

from conftest import TREE
from taxond import Client

README = TREE / "clients" / "python" / "README.md"


def blocks():
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_blocks_run_and_print_what_they_say(daemon, examples, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("mail.txt").write_text("please block my lost card\n" * 3, encoding="utf-8")
    monkeypatch.setenv("TAXOND_ADDR", daemon.address)
    first, asking, learning, changing, wrong, _ = [b.replace("127.0.0.1:50061", daemon.address) for b in blocks()]
    names = {"examples": examples, "texts": ["please block my lost card", "取款800"]}
    exec(first, names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "挂失银行卡" and printed[1] == "['取款', '取款']"
    names["client"] = Client(daemon.address)
    names["client"].promote("bank", 1, alias="canary")
    exec(asking, names)
    assert re.fullmatch(r"(.+ 0\.\d+ (True|False) \d+ \d+\n){2}(挂失银行卡\n){3}", capsys.readouterr().out)
    if job := names["client"].model("bank").running_job:
        names["client"].watch(job).wait(check=False)
    exec(learning, names)
    assert "models/bank/versions/" in capsys.readouterr().out
    exec(changing, names)
    printed = capsys.readouterr().out
    assert re.search(r"^\d+ merge 取款两万以下, 取款两万以上 into 取款 ", printed, re.MULTILINE)
    assert "rename withdraw to take out" in printed
    exec(wrong, names)
    assert capsys.readouterr().out == "opening hour opening hours\n"
    names["client"].delete_model("bank")


def test_the_connections_can_be_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ca.pem", "client.pem", "client.key"):
        Path(name).write_text("-----BEGIN CERTIFICATE-----\n")
    names = {}
    exec(blocks()[-1], names)
