"""Tests of code that damages its kernel: the next call works, or its error reports the damage."""

import time
from collections.abc import Iterator
from textwrap import dedent

import pytest

from tests.conftest import docker_only
from tests.support.api import Body
from tests.support.process import Service
from tests.support.session import Session, StandingSession

PREPARE = "import os, signal, sys, threading, time\nmarker = 'here'"
CHECK = dedent("""
    import subprocess
    print("printed")
    subprocess.run(["echo", "child"])
    display("shown")
    with open("written.txt", "w") as file:
        count = file.write("written")
    globals().get("marker", "gone")
""")


@pytest.fixture(scope="module")
def standing(service: Service) -> Iterator[StandingSession]:
    """A session that all tests of this module use. It is replaced if a test loses it."""
    kept = StandingSession(service)
    yield kept
    kept.close()


@pytest.fixture
def session(standing: StandingSession) -> Session:
    """The session with a new kernel and an empty workspace. `restart` must always work."""
    session = standing.alive()
    session.restart()
    session.bash("chmod 755 . ; find . -mindepth 1 -delete")
    session.run(PREPARE)
    return session


def check_works(session: Session, result: Body) -> None:
    """Assert that a call works in every respect, and that variables are kept as `result` reports."""
    checked = session.run(CHECK)
    marker = "here" if result["state"] == "kept" else "gone"
    assert checked["stdout"] == f"printed\nchild\n'{marker}'\n", checked["stderr"]
    assert (checked["exit_code"], checked["state"], checked["stderr"]) == (0, "kept", "")
    assert [output["data"]["text/plain"] for output in checked["outputs"]] == ["'shown'", f"'{marker}'"]
    assert session.api.returned(checked) == {"written.txt": b"written"}


def check_works_or_reports(session: Session, result: Body) -> None:
    """Assert that the next call works, or that it reports an error and a restart repairs the session.

    Variables may be missing only after a response with the state `restarted`.
    """
    states = {result["state"]}
    for _ in range(2):
        answer = session.run("print(6 * 7, 'marker' in globals())", timeout_ms=1000)
        states.add(answer["state"])
        if answer["exit_code"] == 0:
            # Processes that the code has left may print so much that the output is truncated.
            is_truncated = "stdout" in answer["truncated"]
            assert "42" in answer["stdout"] or is_truncated
            assert (answer["error"], answer["timed_out"]) == (None, False)
            is_reported = "True" in answer["stdout"] or is_truncated or "restarted" in states
            assert is_reported, "the variables are gone, and no response has the state `restarted`"
            return
        assert answer["error"] is not None and answer["error"]["name"], answer
        # If even this code exceeds its timeout, a traceback shows where, or the kernel is replaced.
        assert answer["state"] == "restarted" or answer["stderr"], answer
    session.restart()
    assert session.printed("print(6 * 7)") == "42"


HARMLESS = {
    "replace the streams": """
        import io
        sys.stdout = sys.__stdout__ = io.StringIO()
        sys.stderr = sys.__stderr__ = None
        sys.stdin = sys.__stdin__ = None
    """,
    "close the streams": "sys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
    "close the descriptors of the streams": "for number in (0, 1, 2): os.close(number)",
    "redirect the streams to /dev/null": """
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
    """,
    "make the streams non-blocking": "for number in (1, 2): os.set_blocking(number, False)",
    "delete the connection file and all temporary files": """
        import subprocess
        try:
            from ipykernel import get_connection_file
            os.remove(get_connection_file())
        except Exception:
            pass
        subprocess.run("rm -rf /tmp/* /tmp/.[!.]* ~/* ~/.[!.]* /dev/shm/*", shell=True)
    """,
    "leave daemons that hold the output open": """
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(30)
                os._exit(0)
            os.wait()
    """,
    "leave a daemon that uses a whole CPU": """
        import subprocess
        burn = "while True: pow(3, 99999)"
        daemon = subprocess.Popen([sys.executable, "-c", burn], start_new_session=True)
    """,
    "fork children that exit": """
        for code in (0, 1, 2):
            if os.fork() == 0:
                os._exit(code)
            os.wait()
    """,
    "fork a child that calls sys.exit": """
        if os.fork() == 0:
            print("child")
            sys.exit(0)
        os.wait()
    """,
    "fork a child that raises an exception": """
        if os.fork() == 0:
            raise RuntimeError("in the child")
        os.wait()
    """,
    "fork a child that runs to the end of the cell": """
        child = os.fork()
        done = child and os.waitpid(child, 0)
    """,
    "start a thousand threads": """
        started = 0
        try:
            for _ in range(1000):
                threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
                started += 1
        except RuntimeError:
            pass
        time.sleep(1.5)
    """,
    "change the handler of every signal": """
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
            try: signal.signal(number, lambda *args: print("caught", args[0]))
            except OSError: pass
    """,
    "ignore every signal": """
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
    """,
    "block every signal": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "leave an alarm with a handler": """
        signal.signal(signal.SIGALRM, lambda *args: None)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    """,
    "send SIGINT to the own process": """
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            pass
    """,
    "remove the current folder": "os.mkdir('d'); os.chdir('d'); os.rmdir('../d'); os.chdir('..')",
    "lower the own limits": """
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.setrecursionlimit(80)
        sys.setrecursionlimit(1000)
    """,
    "disable the garbage collector and switch threads rarely": """
        import gc
        gc.disable()
        sys.setswitchinterval(1.0)
    """,
    "name variables like builtins": "print_ = print; list = dict = str = len = id = 7",
    "raise in threads": """
        def fail(): raise SystemExit(3)
        for _ in range(5): threading.Thread(target=fail).start()
    """,
    "register a handler for the exit": "import atexit; atexit.register(time.sleep, 60)",
    "define a class with an endless repr": """
        class Endless:
            def __repr__(self): time.sleep(60)
    """,
    "publish thousands of displays": "for i in range(3000): display(i)",
    "kill all other processes": """
        try: os.kill(-1, 9)
        except ProcessLookupError: pass
    """,
}
"""Code after which the session works in every respect."""


def _marks(name: str) -> list[pytest.MarkDecorator]:
    reason = "over PIDS_LIMIT all processes of a pod are killed: test_too_many_processes_end_the_call"
    return [docker_only(reason)] if name == "start a thousand threads" else []


@pytest.mark.parametrize(
    "code", [pytest.param(code, id=name, marks=_marks(name)) for name, code in HARMLESS.items()]
)
def test_harmless_code_leaves_the_session_working(session: Session, code: str) -> None:
    """Afterwards the next call prints, starts children, displays, writes files and has its variables."""
    result = session.run(dedent(code))
    assert (result["timed_out"], result["exit_code"], result["state"]) == (False, 0, "kept"), result
    check_works(session, result)


STUCK = {
    "ignore interrupts": "signal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)",
    "catch interrupts": "while True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: pass",
    "print on interrupts": (
        "signal.signal(signal.SIGINT, lambda *a: print('no'))\nwhile True: time.sleep(60)"
    ),
    "stop the own process": "os.kill(os.getpid(), signal.SIGSTOP)",
    "loop inside one C function": "sum(range(10**12))",
    "wait for a lock that this thread holds": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "print without end": "while True: print('x' * 1000)",
    "display without end": "while True: display('x' * 1000)",
    "fork without end": "while True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)",
    "run a child that ignores INT and TERM": (
        "import subprocess; subprocess.run(['bash', '-c', \"trap '' INT TERM; sleep 60\"])"
    ),
    "await without end": (
        "import asyncio\nwhile True:\n    try: await asyncio.sleep(60)\n    except BaseException: pass"
    ),
    "block the event loop in a callback": (
        "import asyncio\nasyncio.get_running_loop().call_soon(time.sleep, 60)\nawait asyncio.sleep(60)"
    ),
    "end with a value with an endless repr": "class E:\n    def __repr__(self): time.sleep(60)\nE()",
}
"""Code that does not end by itself."""


@pytest.mark.parametrize("code", STUCK.values(), ids=STUCK.keys())
def test_endless_code_is_ended_after_its_timeout(session: Session, code: str) -> None:
    """The next call works in every respect."""
    result = session.run(f"print('began')\n{code}", timeout_ms=2000)
    assert result["timed_out"] or result["error"]["name"] in ("MemoryLimitExceeded", "KernelDied"), result
    assert result["stdout"].startswith("began\n")
    check_works(session, result)


FATAL = {
    "kill the own process": ("os.kill(os.getpid(), 9)", 137),
    "kill the own process group": ("os.killpg(0, 9)", 137),
    "crash": ("import ctypes; ctypes.string_at(0)", 139),
    "overflow the stack": (
        "sys.setrecursionlimit(10**9)\nf = lambda: sorted([1], key=lambda n: f())\nf()",
        139,
    ),
    "fork and exit in the parent": ("if os.fork(): os._exit(0)\ntime.sleep(30)", 0),
    "abort in a thread": ("threading.Thread(target=os.abort).start(); time.sleep(30)", 134),
    "execute another program in the own process": ("os.execv('/bin/sh', ['sh', '-c', 'exit 5'])", 5),
    "send SIGINT to the own process with the default handler": (
        "signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)",
        130,
    ),
}
"""Code that ends the kernel, with the exit code."""


@pytest.mark.parametrize(("code", "exit_code"), FATAL.values(), ids=FATAL.keys())
def test_code_that_ends_the_kernel_gets_its_exit_code(session: Session, code: str, exit_code: int) -> None:
    """The next call works in a new kernel."""
    result = session.run(f"print('began')\n{code}")
    assert (result["exit_code"], result["timed_out"]) == (exit_code, False), result
    assert (result["state"], result["stdout"]) == ("restarted", "began\n")
    check_works(session, result)


DAMAGING = {
    "replace IPython's run_cell": "get_ipython().run_cell = None",
    "make IPython's run_cell_async raise": """
        from IPython.core.interactiveshell import InteractiveShell
        def broken(*args, **kwargs): raise RuntimeError("broken by the code")
        InteractiveShell.run_cell_async = broken
    """,
    "replace the kernel's do_execute": "get_ipython().kernel.do_execute = lambda *a, **k: None",
    "remove the kernel's shell": "get_ipython().kernel.shell = None",
    "reset the shell": "get_ipython().reset(new_session=True)\nmarker = 'here'",
    "replace the display hook": "sys.displayhook = None",
    "replace the display publisher": "get_ipython().display_pub = None",
    "add an AST transformer that raises": """
        import ast
        class Broken(ast.NodeTransformer):
            def visit(self, node): raise RuntimeError("broken by the code")
        get_ipython().ast_transformers.append(Broken())
    """,
    "add an input transformer that raises": """
        def broken(lines): raise RuntimeError("broken by the code")
        get_ipython().input_transformers_cleanup.append(broken)
    """,
    "register event handlers that raise": """
        def broken(*args): raise RuntimeError("broken by the code")
        for event in ("pre_execute", "pre_run_cell", "post_run_cell", "post_execute"):
            get_ipython().events.register(event, broken)
    """,
    "register an event handler that never returns": """
        get_ipython().events.register("pre_run_cell", lambda info: time.sleep(60))
    """,
    "delete builtins": "import builtins\ndel builtins.print, builtins.len, builtins.open, builtins.repr",
    "replace builtins": "import builtins\nbuiltins.isinstance = builtins.len = lambda *a: 1 / 0",
    "empty sys.modules": "sys.modules.clear()",
    "replace the functions of time": "time.time = time.sleep = time.monotonic = None",
    "close every descriptor": "os.closerange(3, 4096)",
    "close the kernel's sockets": """
        import gc, zmq
        for thing in gc.get_objects():
            if isinstance(thing, zmq.Socket): thing.close()
    """,
    "close the kernel's message streams": """
        kernel = get_ipython().kernel
        for name in ("shell_stream", "control_stream", "iopub_socket", "stdin_socket"):
            try: getattr(kernel, name).close()
            except Exception: pass
    """,
    "destroy the ZeroMQ context": """
        import zmq
        threading.Thread(target=zmq.Context.instance().destroy, daemon=True).start()
        time.sleep(0.3)
    """,
    "stop the event loop": "import asyncio; asyncio.get_event_loop().stop()",
    "cancel every task": """
        import asyncio
        for task in asyncio.all_tasks(): task.cancel()
    """,
    "stop the kernel's I/O threads": """
        for thread in threading.enumerate():
            loop = getattr(thread, "io_loop", None)
            if loop is not None: loop.add_callback(loop.stop)
        time.sleep(0.3)
    """,
    "change the key of the kernel's messages": "get_ipython().kernel.session.key = b'another'",
    "lower the limit of descriptors to 5": """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))
    """,
    "lower the limit of address space to 1 MiB": """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))
    """,
    "lower the recursion limit": "sys.setrecursionlimit(len(__import__('inspect').stack()) + 12)",
    "leave an alarm without a handler": "signal.setitimer(signal.ITIMER_REAL, 0.3)",
    "leave a trace function that raises": """
        def broken(*args): raise RuntimeError("broken by the code")
        sys.settrace(broken); threading.settrace(broken)
    """,
    "leave a thread that kills the process later": """
        threading.Timer(0.3, os.kill, (os.getpid(), 9)).start()
    """,
    "leave a thread that interrupts the main thread": """
        import _thread
        def pester():
            for _ in range(20):
                time.sleep(0.02)
                _thread.interrupt_main()
        threading.Thread(target=pester, daemon=True).start()
    """,
    "leave a thread that prints and displays without end": """
        def flood():
            while True:
                print("x" * 1000)
                display("x" * 1000)
                time.sleep(0.001)
        threading.Thread(target=flood, daemon=True).start()
    """,
    "leave a thread that allocates all memory": """
        hoard = []
        def grow():
            time.sleep(0.3)
            while True: hoard.append(bytearray(b"x") * 20_000_000)
        threading.Thread(target=grow, daemon=True).start()
    """,
    "send forged replies": """
        kernel = get_ipython().kernel
        for content in ({"status": "ok"}, {"status": 7}, {}, {"status": "error", "ename": [1]}):
            kernel.session.send(kernel.iopub_socket, "execute_reply", content)
            kernel.session.send(kernel.iopub_socket, "status", {"execution_state": "idle"})
            kernel.session.send(kernel.iopub_socket, "display_data", {"data": 7, "metadata": [content]})
    """,
}
"""Code that breaks the kernel in which it runs."""


@pytest.mark.parametrize("code", DAMAGING.values(), ids=DAMAGING.keys())
def test_restart_repairs_a_kernel_that_code_has_damaged(session: Session, code: str) -> None:
    """Before the restart, the next call works or reports an error."""
    result = session.run(dedent(code), timeout_ms=1000)
    assert result["state"] in ("kept", "restarted")
    time.sleep(0.5)
    check_works_or_reports(session, result)


def test_session_works_with_a_full_workspace(session: Session) -> None:
    """Code still runs, a restart works, and deleting a file by the API frees space."""
    full = session.run(
        dedent("""
            with open("full", "wb") as file:
                while True:
                    file.write(b"x" * 1_000_000)
        """)
    )
    assert full["error"]["name"] == "OSError"
    assert [file["path"] for file in full["skipped_files"]] == ["full"]
    assert session.printed("print(marker)") == "here"
    session.restart()
    assert session.printed("print(6 * 7)") == "42"
    assert session.file("DELETE", "full").status_code == 204
    check_works(session, {"state": "restarted"})


def test_session_works_with_an_unreadable_workspace(session: Session) -> None:
    """A folder without permissions is no error of the service, and the code can open it again."""
    result = session.run("os.makedirs('closed/below'); os.chmod('closed', 0); os.chmod('/workspace', 0)")
    assert result["state"] == "kept"
    assert session.run("print(marker)")["stdout"] == "here\n"
    assert session.call("GET", "/files").status_code < 500
    mended = session.run("os.chmod('/workspace', 0o755); os.chmod('closed', 0o755)")
    assert mended["exit_code"] == 0
    check_works(session, mended)
