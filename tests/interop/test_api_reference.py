"""The reference of the API is that of the protos."""

import subprocess
import sys

from conftest import HERE


def test_the_reference_is_in_step_with_the_protos():
    script = HERE.parent.parent / "docs" / "generate-api"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
