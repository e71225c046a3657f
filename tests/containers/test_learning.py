"""Heavy modules that programs import are preloaded in later kernels."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernel_image import learnable
from tests.conftest import StartService, serving
from tests.support.process import Service
from tests.support.session import new_session
from tests.support.waiting import soon

LEARNING: dict[str, Any] = {"KERNEL_PRELOAD": "none", "KERNEL_LEARN_MB": 256, "POOL_SIZE": 2}
LOADED = "import sys\nprint([name for name in {names!r} if name in sys.modules])"


def loaded(service: Service, *names: str) -> list[str]:
    """Return which of the modules a new kernel has imported before its program runs."""
    service.settle(at_target=False)
    return list(eval(service.api.run(LOADED.format(names=names))["stdout"]))


@pytest.fixture(scope="module")
def learning(open_service: Callable[..., Service]) -> Iterator[Service]:
    """Return a service that has room for all modules."""
    limits = {"MEMORY_LIMIT_MB": 512, "MAX_EXEC_TIMEOUT_MS": 60_000, "CPU_TIME_LIMIT_SEC": 60}
    yield from serving(open_service, **LEARNING, **limits)


def test_a_module_that_a_program_imports_is_in_later_kernels(learning: Service) -> None:
    """One call imports it. Soon every kernel has it, and works."""
    assert loaded(learning, "networkx") == []
    learning.api.run("import networkx")
    assert soon(lambda: loaded(learning, "networkx") == ["networkx"])
    learning.settle(at_target=False)
    result = learning.api.run("import networkx\nlen(networkx.path_graph(4))")
    assert result["outputs"][0]["data"]["text/plain"] == "4"
    assert loaded(learning, "networkx") == ["networkx"]


def test_a_session_teaches_as_well(learning: Service) -> None:
    """Its modules are in later kernels when it has ended. Its own kernel stays as it was."""
    with new_session(learning) as session:
        session.run("import bs4")
        assert session.printed(LOADED.format(names=["bs4"])) == "['bs4']"
    assert soon(lambda: loaded(learning, "bs4") == ["bs4"])


def test_a_forged_report_names_known_modules_only(learning: Service) -> None:
    """User code owns its kernel, and can report what it likes."""
    forged = ["this", "antigravity", "../../x", 5, None, "docx"]
    learning.api.run(
        f"import sys\nnames = {forged!r}\nget_ipython().kernel.learnable = names\n"
        "sys.modules.update(dict.fromkeys(names, sys))"
    )
    assert soon(lambda: loaded(learning, "docx") == ["docx"])
    assert loaded(learning, "this", "antigravity") == []


def test_kernels_share_no_random_state_of_a_learnt_module(learning: Service) -> None:
    """A generator that a module makes at its import is seeded anew in each kernel."""
    code = "import sympy.core.random as r\nprint(r.random())"
    learning.api.run("import sympy")
    assert soon(lambda: loaded(learning, "sympy") == ["sympy"])
    assert len({learning.api.run(code)["stdout"] for _ in range(3)}) == 3


def test_a_module_that_takes_too_much_memory_is_not_preloaded(start_service: StartService) -> None:
    """The log says so once. Calls go on."""
    service = start_service(**LEARNING | {"KERNEL_LEARN_MB": 4})
    for _ in range(3):
        service.api.run("import sympy")
        service.settle(at_target=False)
    assert soon(lambda: "sympy take more memory" in service.log_path.read_text())
    service.api.run("import sympy")
    service.settle(at_target=False)
    assert service.log_path.read_text().count("take more memory") == 1
    assert loaded(service, "sympy") == []


def test_a_full_pool_learns_too(start_service: StartService) -> None:
    """The only container makes room for one that has the module."""
    service = start_service(**LEARNING | {"POOL_SIZE": 1, "MAX_CONTAINERS": 1})
    service.api.run("import bs4")
    learnt = "programs use bs4"
    assert soon(lambda: learnt in service.log_path.read_text())
    assert loaded(service, "bs4") == ["bs4"]
    assert len(service.engine.kernels(service.instance_id)) == 1


def test_modules_that_may_be_preloaded_start_no_thread(learning: Service) -> None:
    """A zygote with threads could not fork kernels that work."""
    found = learning.api.run(
        "import importlib, importlib.util, os, sys\n"
        "sys.modules['pyarrow'] = None\n"  # as in the zygote
        "before = len(os.listdir('/proc/self/task'))\n"
        f"for name in {learnable.MODULES!r}:\n"
        "    if importlib.util.find_spec(name.partition('.')[0]):\n"
        "        importlib.import_module(name)\n"
        "        if len(os.listdir('/proc/self/task')) > before: print(name)\n"
        "print('all')",
        timeout_ms=60_000,
    )
    assert found["stdout"] == "all\n"
