"""What libraries print is kept from the screen, and what others print is not, on however many threads."""

import sys
import threading
import warnings

import pytest

from jaxrl.envs.quiet import quiet


@pytest.fixture
def _hectic():
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_hectic")
def test_threads_that_go_quiet_at_once_leave_the_streams_as_they_were(capsys):
    before = sys.stdout, sys.stderr, list(warnings.filters)
    has_begun = threading.Event()

    def load():
        for _ in range(300):
            with quiet(), quiet():
                has_begun.set()
                print("a notice")
                print("an error", file=sys.stderr)
                warnings.warn("a warning", stacklevel=1)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    has_begun.wait()
    for _ in range(100):
        print("out", flush=True)
        print("err", file=sys.stderr)
    for thread in threads:
        thread.join()
    assert (sys.stdout, sys.stderr, list(warnings.filters)) == before
    assert capsys.readouterr() == ("out\n" * 100, "err\n" * 100)
