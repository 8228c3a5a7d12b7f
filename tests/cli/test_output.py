"""What becomes of the output of a command whose reader has gone."""

import subprocess
import sys


def test_output_that_nobody_reads_any_more_is_lost_and_nothing_worse():
    program = """
import sys
from simplenet.cli.output import lasting_output
with lasting_output():
    sys.stdin.read()
    print("unread")
print("went on", file=sys.stderr)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, stderr=-1, text=True)
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    with process.stderr as errors:
        assert errors.read() == "went on\n"
