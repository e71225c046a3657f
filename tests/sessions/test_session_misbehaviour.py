"""Tests of code that breaks its kernel: the next call works, or an error says what happened."""

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
def patient(service: Service) -> Iterator[StandingSession]:
    """One session for every kind of misbehaviour."""
    standing = StandingSession(service)
    yield standing
    standing.close()


@pytest.fixture
def session(patient: StandingSession) -> Session:
    """The session with a new kernel and an empty workspace: `restart` always works."""
    alive = patient.alive()
    alive.restart()
    alive.bash("chmod 755 . ; find . -mindepth 1 -delete")
    alive.run(PREPARE)
    return alive


def works(session: Session, result: Body) -> None:
    """Assert that a call works in every respect, and that the state is what the last one said."""
    checked = session.run(CHECK)
    marker = "here" if result["state"] == "kept" else "gone"
    assert checked["stdout"] == f"printed\nchild\n'{marker}'\n", checked["stderr"]
    assert (checked["exit_code"], checked["state"], checked["stderr"]) == (0, "kept", "")
    assert [output["data"]["text/plain"] for output in checked["outputs"]] == ["'shown'", f"'{marker}'"]
    assert session.api.returned(checked) == {"written.txt": b"written"}


def works_or_says(session: Session, result: Body) -> None:
    """Assert that the next call works, or ends with an error that names what is wrong, and that a
    restart mends that. Variables may be gone only where an answer has said that they are.
    """
    states = {result["state"]}
    for _ in range(2):
        answer = session.run("print(6 * 7, 'marker' in globals())", timeout_ms=1000)
        states.add(answer["state"])
        if answer["exit_code"] == 0:
            # Processes that the code has left may print so much that the output is cut.
            drowned = "stdout" in answer["truncated"]
            assert "42" in answer["stdout"] or drowned
            assert (answer["error"], answer["timed_out"]) == (None, False)
            known = "True" in answer["stdout"] or drowned or "restarted" in states
            assert known, "the variables are gone, and no answer has said so"
            return
        assert answer["error"] is not None and answer["error"]["name"], answer
        # Where code that does nothing takes too long, a traceback says why, or the kernel is replaced.
        assert answer["state"] == "restarted" or answer["stderr"], answer
    session.restart()
    assert session.printed("print(6 * 7)") == "42"


HARMLESS = {
    "replaces its streams": """
        import io
        sys.stdout = sys.__stdout__ = io.StringIO()
        sys.stderr = sys.__stderr__ = None
        sys.stdin = sys.__stdin__ = None
    """,
    "closes its streams": "sys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
    "closes the descriptors of its streams": "for number in (0, 1, 2): os.close(number)",
    "sends its streams elsewhere": """
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
    """,
    "makes its streams not block": "for number in (1, 2): os.set_blocking(number, False)",
    "deletes its connection file and what else it can": """
        import subprocess
        try:
            from ipykernel import get_connection_file
            os.remove(get_connection_file())
        except Exception:
            pass
        subprocess.run("rm -rf /tmp/* /tmp/.[!.]* ~/* ~/.[!.]* /dev/shm/*", shell=True)
    """,
    "leaves daemons that hold its output": """
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(30)
                os._exit(0)
            os.wait()
    """,
    "leaves a daemon that burns": """
        import subprocess
        burn = "while True: pow(3, 99999)"
        daemon = subprocess.Popen([sys.executable, "-c", burn], start_new_session=True)
    """,
    "forks children that end": """
        for code in (0, 1, 2):
            if os.fork() == 0:
                os._exit(code)
            os.wait()
    """,
    "forks a child that leaves as a program does": """
        if os.fork() == 0:
            print("child")
            sys.exit(0)
        os.wait()
    """,
    "forks a child that dies of an exception": """
        if os.fork() == 0:
            raise RuntimeError("in the child")
        os.wait()
    """,
    "forks a child that goes on": """
        child = os.fork()
        done = child and os.waitpid(child, 0)
    """,
    "starts a thousand threads": """
        started = 0
        try:
            for _ in range(1000):
                threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
                started += 1
        except RuntimeError:
            pass
        time.sleep(1.5)
    """,
    "changes every signal's handler": """
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
            try: signal.signal(number, lambda *args: print("caught", args[0]))
            except OSError: pass
    """,
    "ignores every signal": """
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
    """,
    "blocks every signal": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "leaves an alarm with a handler": """
        signal.signal(signal.SIGALRM, lambda *args: None)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    """,
    "sends itself interrupts": """
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            pass
    """,
    "removes the folder it is in": "os.mkdir('d'); os.chdir('d'); os.rmdir('../d'); os.chdir('..')",
    "lowers its limits": """
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.setrecursionlimit(80)
        sys.setrecursionlimit(1000)
    """,
    "collects no garbage and switches rarely": """
        import gc
        gc.disable()
        sys.setswitchinterval(1.0)
    """,
    "names its variables like builtins": "print_ = print; list = dict = str = len = id = 7",
    "raises in threads": """
        def fail(): raise SystemExit(3)
        for _ in range(5): threading.Thread(target=fail).start()
    """,
    "leaves handlers for its exit": "import atexit; atexit.register(time.sleep, 60)",
    "defines a class whose repr never ends": """
        class Endless:
            def __repr__(self): time.sleep(60)
    """,
    "displays thousands of things": "for i in range(3000): display(i)",
    "kills all others it can": """
        try: os.kill(-1, 9)
        except ProcessLookupError: pass
    """,
}
"""Code after which the session works in every respect."""


def _of_docker(name: str) -> list[pytest.MarkDecorator]:
    why = "beyond PIDS_LIMIT all of a pod's are killed: test_too_many_processes_end_the_call"
    return [docker_only(why)] if name == "starts a thousand threads" else []


@pytest.mark.parametrize(
    "code", [pytest.param(code, id=name, marks=_of_docker(name)) for name, code in HARMLESS.items()]
)
def test_harmless_code_leaves_the_session_working(session: Session, code: str) -> None:
    """Afterwards the next call prints, starts children, displays, writes files and has its variables."""
    result = session.run(dedent(code))
    assert (result["timed_out"], result["exit_code"], result["state"]) == (False, 0, "kept"), result
    works(session, result)


STUCK = {
    "ignores interrupts": "signal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)",
    "catches interrupts": "while True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: pass",
    "answers interrupts with prints": (
        "signal.signal(signal.SIGINT, lambda *a: print('no'))\nwhile True: time.sleep(60)"
    ),
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "hides in the collector": "sum(range(10**12))",
    "waits for a lock it holds": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "prints without end": "while True: print('x' * 1000)",
    "displays without end": "while True: display('x' * 1000)",
    "forks without end": "while True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)",
    "runs a child that is deaf": (
        "import subprocess; subprocess.run(['bash', '-c', \"trap '' INT TERM; sleep 60\"])"
    ),
    "awaits without end": (
        "import asyncio\nwhile True:\n    try: await asyncio.sleep(60)\n    except BaseException: pass"
    ),
    "blocks its event loop for later": (
        "import asyncio\nasyncio.get_running_loop().call_soon(time.sleep, 60)\nawait asyncio.sleep(60)"
    ),
    "has a value whose repr never ends": "class E:\n    def __repr__(self): time.sleep(60)\nE()",
}
"""Code that does not end by itself."""


@pytest.mark.parametrize("code", STUCK.values(), ids=STUCK.keys())
def test_endless_code_is_ended_after_its_timeout(session: Session, code: str) -> None:
    """The next call works in every respect."""
    result = session.run(f"print('began')\n{code}", timeout_ms=2000)
    assert result["timed_out"] or result["error"]["name"] in ("MemoryLimitExceeded", "KernelDied"), result
    assert result["stdout"].startswith("began\n")
    works(session, result)


FATAL = {
    "kills itself": ("os.kill(os.getpid(), 9)", 137),
    "kills its group": ("os.killpg(0, 9)", 137),
    "crashes": ("import ctypes; ctypes.string_at(0)", 139),
    "overflows the stack": (
        "sys.setrecursionlimit(10**9)\nf = lambda: sorted([1], key=lambda n: f())\nf()",
        139,
    ),
    "forks and leaves": ("if os.fork(): os._exit(0)\ntime.sleep(30)", 0),
    "aborts in a thread": ("threading.Thread(target=os.abort).start(); time.sleep(30)", 134),
    "replaces itself with another program": ("os.execv('/bin/sh', ['sh', '-c', 'exit 5'])", 5),
    "interrupts itself by the default": (
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
    works(session, result)


RUINOUS = {
    "replaces IPython's run_cell": "get_ipython().run_cell = None",
    "has IPython's run_cell_async raise": """
        from IPython.core.interactiveshell import InteractiveShell
        def broken(*args, **kwargs): raise RuntimeError("broken by the code")
        InteractiveShell.run_cell_async = broken
    """,
    "replaces the kernel's do_execute": "get_ipython().kernel.do_execute = lambda *a, **k: None",
    "takes the kernel's shell away": "get_ipython().kernel.shell = None",
    "resets the shell": "get_ipython().reset(new_session=True)\nmarker = 'here'",
    "replaces the display hook": "sys.displayhook = None",
    "replaces the display publisher": "get_ipython().display_pub = None",
    "leaves a transformer that raises": """
        import ast
        class Broken(ast.NodeTransformer):
            def visit(self, node): raise RuntimeError("broken by the code")
        get_ipython().ast_transformers.append(Broken())
    """,
    "leaves input transformers that raise": """
        def broken(lines): raise RuntimeError("broken by the code")
        get_ipython().input_transformers_cleanup.append(broken)
    """,
    "leaves events that raise": """
        def broken(*args): raise RuntimeError("broken by the code")
        for event in ("pre_execute", "pre_run_cell", "post_run_cell", "post_execute"):
            get_ipython().events.register(event, broken)
    """,
    "leaves events that never end": """
        get_ipython().events.register("pre_run_cell", lambda info: time.sleep(60))
    """,
    "deletes builtins": "import builtins\ndel builtins.print, builtins.len, builtins.open, builtins.repr",
    "replaces builtins": "import builtins\nbuiltins.isinstance = builtins.len = lambda *a: 1 / 0",
    "empties sys.modules": "sys.modules.clear()",
    "replaces time": "time.time = time.sleep = time.monotonic = None",
    "closes every descriptor": "os.closerange(3, 4096)",
    "closes its sockets": """
        import gc, zmq
        for thing in gc.get_objects():
            if isinstance(thing, zmq.Socket): thing.close()
    """,
    "closes its streams of messages": """
        kernel = get_ipython().kernel
        for name in ("shell_stream", "control_stream", "iopub_socket", "stdin_socket"):
            try: getattr(kernel, name).close()
            except Exception: pass
    """,
    "ends the context of its sockets": """
        import zmq
        threading.Thread(target=zmq.Context.instance().destroy, daemon=True).start()
        time.sleep(0.3)
    """,
    "stops its event loop": "import asyncio; asyncio.get_event_loop().stop()",
    "cancels every task": """
        import asyncio
        for task in asyncio.all_tasks(): task.cancel()
    """,
    "stops its input and output threads": """
        for thread in threading.enumerate():
            loop = getattr(thread, "io_loop", None)
            if loop is not None: loop.add_callback(loop.stop)
        time.sleep(0.3)
    """,
    "changes the key of its messages": "get_ipython().kernel.session.key = b'another'",
    "takes away its own limits": """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))
    """,
    "leaves itself no address space": """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))
    """,
    "leaves itself no recursion": "sys.setrecursionlimit(len(__import__('inspect').stack()) + 12)",
    "leaves an alarm without a handler": "signal.setitimer(signal.ITIMER_REAL, 0.3)",
    "leaves a trace function that raises": """
        def broken(*args): raise RuntimeError("broken by the code")
        sys.settrace(broken); threading.settrace(broken)
    """,
    "leaves a thread that kills later": """
        threading.Timer(0.3, os.kill, (os.getpid(), 9)).start()
    """,
    "leaves a thread that interrupts": """
        import _thread
        def pester():
            for _ in range(20):
                time.sleep(0.02)
                _thread.interrupt_main()
        threading.Thread(target=pester, daemon=True).start()
    """,
    "leaves a thread that prints and displays without end": """
        def flood():
            while True:
                print("x" * 1000)
                display("x" * 1000)
                time.sleep(0.001)
        threading.Thread(target=flood, daemon=True).start()
    """,
    "leaves a thread that takes all memory": """
        hoard = []
        def grow():
            time.sleep(0.3)
            while True: hoard.append(bytearray(b"x") * 20_000_000)
        threading.Thread(target=grow, daemon=True).start()
    """,
    "sends answers of its own": """
        kernel = get_ipython().kernel
        for content in ({"status": "ok"}, {"status": 7}, {}, {"status": "error", "ename": [1]}):
            kernel.session.send(kernel.iopub_socket, "execute_reply", content)
            kernel.session.send(kernel.iopub_socket, "status", {"execution_state": "idle"})
            kernel.session.send(kernel.iopub_socket, "display_data", {"data": 7, "metadata": [content]})
    """,
}
"""Code that breaks the kernel in which it runs."""


@pytest.mark.parametrize("code", RUINOUS.values(), ids=RUINOUS.keys())
def test_restart_repairs_a_kernel_that_code_has_ruined(session: Session, code: str) -> None:
    """Before the restart, the next call works or gives an error that says what is wrong."""
    result = session.run(dedent(code), timeout_ms=1000)
    assert result["state"] in ("kept", "restarted")
    time.sleep(0.5)
    works_or_says(session, result)


def test_session_works_with_a_full_workspace(session: Session) -> None:
    """Code still runs, a restart works, and deleting a file by the API helps."""
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
    works(session, {"state": "restarted"})


def test_session_works_with_an_unreadable_workspace(session: Session) -> None:
    """A folder without permissions is no error of the service, and the code can open it again."""
    result = session.run("os.makedirs('closed/below'); os.chmod('closed', 0); os.chmod('/workspace', 0)")
    assert result["state"] == "kept"
    assert session.run("print(marker)")["stdout"] == "here\n"
    assert session.call("GET", "/files").status_code < 500
    mended = session.run("os.chmod('/workspace', 0o755); os.chmod('closed', 0o755)")
    assert mended["exit_code"] == 0
    works(session, mended)
