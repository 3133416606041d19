"""Errors as lines on standard error and an exit code."""

import subprocess
import sys

from tests.support.hostile import WHOLE, plain


def test_an_unexpected_error_prints_an_escaped_traceback(tmp_path):
    script = f"""
import sys
sys.argv = ["registry-gc", "--verbose"]
from worker.cli.errors import report_error
try:
    raise ValueError({WHOLE!r})
except ValueError as error:
    report_error(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30, check=True)
    assert plain(done.stderr.decode())
    assert b"Traceback" in done.stderr
