"""A request to stop ends a command with one line, wherever in a program of Python's the signal falls."""

import subprocess
import sys
import textwrap

import pytest

INSTANTS = {
    "between two lines": "kill()",
    "in the making of a class": """
        class Descriptor:
            def __set_name__(self, owner, name):
                kill()
        class Owner:
            descriptor = Descriptor()
    """,
    "in a destructor, where it is swallowed": """
        class Resource:
            def __del__(self):
                kill()
        Resource()
        time.sleep(60)
        print("it went on")
    """,
    "in a callback, whose caller makes another error of it": """
        try:
            kill()
        except KeyboardInterrupt:
            raise RuntimeError("the runner failed")
    """,
    "while a thread has the last word": """
        def fail():
            raise ValueError("a thread was interrupted")
        try:
            kill()
        finally:
            thread = threading.Thread(target=fail)
            thread.start()
            thread.join()
            logging.getLogger("apache_beam").error("a worker was interrupted")
            warnings.warn("something leaked")
    """,
    "twice": """
        try:
            kill()
        finally:
            kill()
    """,
}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("instant", INSTANTS)
def test_a_signal(instant, name):
    script = f"""
import logging, os, signal, sys, threading, time, warnings
from curricle.schemas.common.command import dispatch

def kill():
    os.kill(os.getpid(), signal.{name})

def end(arguments):
{textwrap.indent(textwrap.dedent(INSTANTS[instant]), "    ")}
    return 0

sys.exit(dispatch("prog", {{"end": end}}, ["end"], "the last shard"))
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=50)
    assert done.stdout + done.stderr == "prog: asked to stop; the same command goes on from the last shard\n"
    assert done.returncode == 1


def test_a_failure_that_a_user_can_mend_is_said_all_the_same():
    """A disk that is full as a run saves its last step must not be hidden by the request."""
    script = """
import os, signal, sys
from curricle.schemas.common.command import dispatch
from curricle.schemas.common.errors import UserError

def end(arguments):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        raise UserError("the disk is full")

sys.exit(dispatch("prog", {"end": end}, ["end"], "the last shard"))
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1 and done.stderr == "prog: the disk is full\n"


def test_handlers_are_as_they_were_when_a_command_has_ended():
    import signal

    from curricle.schemas.common.command import dispatch

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)], sys.unraisablehook
    assert dispatch("prog", {"end": lambda _: 0}, ["end"], "") == 0
    assert ([signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)], sys.unraisablehook) == before
