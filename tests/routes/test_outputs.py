"""Rich outputs over HTTP: what a notebook would show, in the notebook's own format."""

import base64
import struct
from textwrap import dedent
from typing import Any

import nbformat
import pytest

from tests.conftest import Run
from tests.support.api import Body
from tests.support.process import Service
from tests.support.sse import strict_json

PNG = b"\x89PNG\r\n\x1a\n"


def validate(outputs: list[Body]) -> None:
    """Assert that the outputs make a valid v4.5 notebook when put in a cell as they are."""
    cell = {
        "cell_type": "code",
        "id": "cell-1",
        "execution_count": 1,
        "metadata": {},
        "source": "code",
        "outputs": outputs,
    }
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}
    nbformat.validate(nbformat.from_dict(notebook))  # type: ignore[no-untyped-call]


def shown(run: Run, code: str, **fields: Any) -> list[Body]:
    """The outputs of code that must end well."""
    result = run(dedent(code), **fields)
    assert result["exit_code"] == 0, result["stderr"]
    outputs: list[Body] = result["outputs"]
    validate(outputs)
    return outputs


def png_size(data: str) -> tuple[int, int]:
    """Width and height of a base64 PNG, in pixels."""
    content = base64.b64decode(data, validate=False)
    assert content.startswith(PNG)
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_a_value_is_an_execute_result(run: Run) -> None:
    """The last line's bundle has text, metadata and a count, as nbformat wants it."""
    (output,) = shown(run, "6 * 7")
    assert output["output_type"] == "execute_result"
    assert output["data"] == {"text/plain": "42"}
    assert output["metadata"] == {}
    assert isinstance(output["execution_count"], int)


def test_displays_keep_their_order_before_the_result(run: Run) -> None:
    """Five hundred displays and a value come back as they were shown, text not among them."""
    outputs = shown(run, "for i in range(500):\n    display(i)\nprint('text')\n'last'")
    texts = [output["data"]["text/plain"] for output in outputs]
    assert texts == [str(i) for i in range(500)] + ["'last'"]
    assert {output["output_type"] for output in outputs[:-1]} == {"display_data"}


def test_a_data_frame_is_text_and_html(run: Run) -> None:
    """A DataFrame gives both forms, on the last line and by `display`."""
    outputs = shown(
        run,
        """
        import pandas as pd
        frame = pd.DataFrame({"city": ["Zürich", "京都"], "n": [1, 2]})
        display(frame)
        frame
        """,
    )
    assert [o["output_type"] for o in outputs] == ["display_data", "execute_result"]
    for output in outputs:
        assert "京都" in output["data"]["text/plain"]
        assert "<table" in output["data"]["text/html"]
        assert "<td>Zürich</td>" in output["data"]["text/html"]


@pytest.mark.parametrize("ending", ["plt.show()", "None", "plt.plot([3, 1])"])
def test_a_figure_is_one_png_shown_or_not(run: Run, service: Service, ending: str) -> None:
    """A figure comes back once as PNG, with `plt.show()` and, as in a notebook, without."""
    outputs = shown(run, f"import matplotlib.pyplot as plt\nplt.plot([1, 2])\n{ending}")
    images = [output for output in outputs if "image/png" in output["data"]]
    assert len(images) == 1
    width, height = png_size(images[0]["data"]["image/png"])
    assert width > 100 and height > 100
    file_id = images[0]["metadata"]["image/png"]["file_id"]
    assert service.api.download(file_id) == base64.b64decode(images[0]["data"]["image/png"])
    texts = [output["data"]["text/plain"] for output in outputs if output not in images]
    assert len(texts) == (1 if ending.startswith("plt.plot") else 0)


def test_several_figures_are_several_images(run: Run) -> None:
    """Each open figure is shown, in the order made, whether shown together or one by one."""
    outputs = shown(
        run,
        """
        import matplotlib.pyplot as plt
        for width in (2, 3, 4):
            plt.figure(figsize=(width, 2), dpi=100)
            plt.plot([1, 2])
            if width == 2:
                plt.show()
        plt.show()
        """,
    )
    sizes = [png_size(output["data"]["image/png"]) for output in outputs]
    assert len(sizes) == 3
    assert sizes == sorted(sizes) and len(set(sizes)) == 3
    assert len({output["metadata"]["image/png"]["file_id"] for output in outputs}) == 3


def test_a_saved_and_closed_figure_is_a_file_and_no_output(run: Run, service: Service) -> None:
    """`savefig` writes a file; a closed figure is not shown."""
    result = run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('chart.png')\nplt.close()")
    assert result["outputs"] == []
    assert service.api.returned(result)["chart.png"].startswith(PNG)


def test_text_of_many_scripts_is_drawn_without_complaint(run: Run) -> None:
    """Labels in Chinese and Japanese find a font that has them."""
    result = run("import matplotlib.pyplot as plt\nplt.title('温度 あいう é Ω')\nplt.show()")
    assert "missing from font" not in result["stderr"]
    assert len(result["outputs"]) == 1


def test_images_of_every_kind_are_stored_as_files(run: Run, service: Service) -> None:
    """PNG, JPEG, GIF and SVG each have a file id that downloads to exactly the bytes shown."""
    outputs = shown(
        run,
        """
        import io
        from IPython.display import SVG, Image
        from PIL import Image as Pillow
        for kind in ("png", "jpeg", "gif"):
            held = io.BytesIO()
            Pillow.new("RGB", (5, 4), "red").save(held, kind)
            display(Image(data=held.getvalue(), format=kind, width=50))
        display(SVG('<svg xmlns="http://www.w3.org/2000/svg" width="9"><text>é 京</text></svg>'))
        Pillow.new("RGB", (3, 3))
        """,
    )
    kinds = set()
    for output in outputs:
        for kind in output["data"]:
            if not kind.startswith("image/"):
                continue
            kinds.add(kind)
            data = output["data"][kind]
            content = data.encode() if kind == "image/svg+xml" else base64.b64decode(data)
            assert service.api.download(output["metadata"][kind]["file_id"]) == content
    assert kinds >= {"image/png", "image/jpeg", "image/gif", "image/svg+xml"}
    assert outputs[0]["metadata"]["image/png"]["width"] == 50, "the code's own metadata is kept"
    assert "京" in outputs[3]["data"]["image/svg+xml"]


def test_text_like_media_types_come_as_they_are(run: Run) -> None:
    """LaTeX, Markdown, HTML, JavaScript and JSON keep their types; JSON stays an object."""
    outputs = shown(
        run,
        """
        from IPython.display import HTML, JSON, Javascript, Latex, Markdown, Math
        display(Latex("$x^2$"))
        display(Math("y"))
        display(Markdown("# Title"))
        display(HTML("<b>bold</b>"))
        display(Javascript("1"))
        display(JSON({"a": [1, {"b": None}], "é": True}))
        display({"application/vnd.custom.v1+json": {"k": 1}, "text/plain": "p"}, raw=True)
        """,
    )
    data = [output["data"] for output in outputs]
    assert data[0]["text/latex"] == "$x^2$"
    assert data[1]["text/latex"] == "$\\displaystyle y$"
    assert data[2]["text/markdown"] == "# Title"
    assert data[3]["text/html"] == "<b>bold</b>"
    assert data[4]["application/javascript"] == "1"
    assert data[5]["application/json"] == {"a": [1, {"b": None}], "é": True}
    assert data[6] == {"application/vnd.custom.v1+json": {"k": 1}, "text/plain": "p"}


def test_objects_choose_their_representations(run: Run) -> None:
    """`_repr_html_`, `_repr_mimebundle_`, a pandas Styler and a scikit-learn model are supported."""
    outputs = shown(
        run,
        """
        import pandas as pd
        from sklearn.linear_model import LogisticRegression
        class Page:
            def __repr__(self): return "a page"
            def _repr_html_(self): return "<p>page</p>"
        class Bundle:
            def _repr_mimebundle_(self, include=None, exclude=None):
                data = {"text/plain": "bundle", "text/markdown": "*bundle*"}
                return data, {"text/markdown": {"m": 1}}
        display(Page())
        display(Bundle())
        display(pd.DataFrame({"a": [1]}).style.highlight_max(color="yellow"))
        LogisticRegression(C=0.5)
        """,
    )
    page, bundle, styler, model = outputs
    assert page["data"] == {"text/plain": "a page", "text/html": "<p>page</p>"}
    assert bundle["data"] == {"text/plain": "bundle", "text/markdown": "*bundle*"}
    assert bundle["metadata"] == {"text/markdown": {"m": 1}}
    assert "background-color: yellow" in styler["data"]["text/html"]
    assert "LogisticRegression" in model["data"]["text/html"]
    assert model["data"]["text/plain"] == "LogisticRegression(C=0.5)"


def test_failing_repr_leaves_the_plain_text(run: Run) -> None:
    """A failing `_repr_html_` also leaves a traceback in `stderr`."""
    result = run(
        "class Bad:\n    def _repr_html_(self): raise ValueError('no html')\n"
        "    def __repr__(self): return 'plain'\ndisplay(Bad())\nprint('after')"
    )
    validate(result["outputs"])
    assert result["outputs"][0]["data"] == {"text/plain": "plain"}
    assert "no html" in result["stderr"]
    assert result["stdout"] == "after\n"


def test_updated_display_has_its_last_content(run: Run) -> None:
    """`update_display` replaces the display in its place; an unknown id changes nothing."""
    outputs = shown(
        run,
        """
        from IPython.display import HTML, update_display
        handle = display("first", display_id=True)
        display("second")
        handle.update("changed")
        display("twice", display_id="same")
        display("again", display_id="same")
        update_display(HTML("<i>both</i>"), display_id="same")
        update_display("nowhere", display_id="unknown")
        """,
    )
    texts = [o["data"].get("text/html", o["data"]["text/plain"]) for o in outputs]
    assert texts == ["'changed'", "'second'", "<i>both</i>", "<i>both</i>"]
    assert all("transient" not in output for output in outputs)


def test_cleared_output_is_gone(run: Run) -> None:
    """`clear_output` removes the displays at once, or when the next output comes."""
    outputs = shown(
        run,
        """
        from IPython.display import clear_output
        display("gone")
        clear_output()
        display("gone too")
        clear_output(wait=True)
        display("kept")
        clear_output(wait=True)
        """,
    )
    assert [output["data"]["text/plain"] for output in outputs] == ["'kept'"]


def test_animated_figure_has_its_last_frame(run: Run, service: Service) -> None:
    """Frames replace each other; only the last one is an output, with its file."""
    outputs = shown(
        run,
        """
        import matplotlib.pyplot as plt
        handle = None
        for width in (2, 3, 4):
            figure = plt.figure(figsize=(width, 2), dpi=100)
            plt.plot([1, 2])
            plt.close(figure)
            if handle is None:
                handle = display(figure, display_id=True)
            else:
                handle.update(figure)
        """,
    )
    (output,) = outputs
    content = service.api.download(output["metadata"]["image/png"]["file_id"])
    assert content == base64.b64decode(output["data"]["image/png"])


def test_outputs_before_an_error_or_timeout_are_kept(run: Run) -> None:
    """Outputs are kept however the code ends."""
    endings = {"1/0": 10_000, "import sys; sys.exit(3)": 10_000, "import time; time.sleep(60)": 3000}
    for ending, timeout_ms in endings.items():
        result = run(f"display('kept')\nprint('text')\n{ending}", timeout_ms=timeout_ms)
        validate(result["outputs"])
        assert [o["data"]["text/plain"] for o in result["outputs"]] == ["'kept'"], ending
        assert result["exit_code"] != 0


def test_values_that_json_lacks_give_valid_json(service: Service) -> None:
    """NaN, infinities, lone surrogates and very deep values in a bundle still give valid JSON."""
    response = service.api.execute(
        dedent("""
            from IPython.display import HTML, JSON
            def attempt(thing):
                try:
                    display(thing)
                except Exception as error:
                    print(type(error).__name__)
            deep = []
            for _ in range(500):
                deep = [deep]
            attempt(JSON({"a": float("nan"), "b": float("inf")}))
            attempt(JSON({"big": 10 ** 400}))
            attempt(JSON(deep))
            attempt(HTML("\\ud800"))
            attempt("after")
        """)
    )
    assert response.status_code == 200
    result = strict_json(response.content)
    validate(result["outputs"])
    assert result["outputs"][-1]["data"]["text/plain"] == "'after'"


def test_malformed_messages_of_the_kernel_do_not_reach_the_caller(service: Service) -> None:
    """User code can sign any message with the kernel's key."""
    response = service.api.execute(
        dedent("""
            kernel = get_ipython().kernel
            parent = kernel.get_parent()
            contents = [
                {}, {"data": None}, {"data": 5, "metadata": []}, {"data": {"text/plain": {"x": 1}}},
                {"data": {"image/png": 7}}, {"data": {"image/png": "no base64!"}, "metadata": {}},
                {"data": {"image/png": "AAAA"}, "metadata": {"image/png": "text"}},
                {"data": {"": None, "nonsense": [1]}, "metadata": {"a": 1}, "transient": 3},
                {"wait": "perhaps"}, {"name": "stdout", "text": 5}, {"name": ["x"]},
                {"execution_state": 9}, {"ename": 1, "evalue": None, "traceback": "text"},
                {"execution_count": "many", "data": {"text/plain": "forged"}, "metadata": {}},
            ]
            kinds = ["display_data", "execute_result", "update_display_data", "clear_output",
                     "stream", "error", "status", "unheard_of", ""]
            for kind in kinds:
                for content in contents:
                    try:
                        kernel.session.send(kernel.iopub_socket, kind, content, parent=parent)
                    except Exception:
                        pass
            mark = b"<IDS|MSG>"
            for frames in ([b""], [mark], [b"x"] * 9, [mark, b"s", b"{", b"[", b"1"]):
                try:
                    kernel.iopub_socket.send_multipart(frames)
                except Exception:
                    pass
            with open("end.txt", "w") as f:
                _ = f.write("reached")
            display("after")
        """)
    )
    assert response.status_code == 200, response.text[:1000]
    result = strict_json(response.content)
    validate(result["outputs"])
    assert result["outputs"][-1]["data"]["text/plain"] == "'after'"
    assert service.api.returned(result)["end.txt"] == b"reached"
    assert service.api.run("print('next')")["stdout"] == "next\n"


def test_large_figures_are_not_lost_at_the_end_of_a_program(run: Run) -> None:
    """A figure of some hundred kilobytes, shown last, is there every time."""
    code = "import numpy as np, matplotlib.pyplot as plt\nplt.imshow(np.random.rand(600, 600)); None"
    for _ in range(4):
        (figure,) = run(code)["outputs"]
        assert len(figure["data"]["image/png"]) > 65_536
