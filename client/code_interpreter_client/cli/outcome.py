"""Output of an execution: text on the terminal, images and files in a folder."""

from pathlib import Path

from code_interpreter_client.cli.problems import report
from code_interpreter_client.cli.terminal import Printer, one_line
from code_interpreter_client.cli.transfers import receiving
from code_interpreter_client.client import Client
from code_interpreter_client.local_paths import path_beneath
from code_interpreter_client.models.events import Cleared, Event, Printed, Shown
from code_interpreter_client.models.images import Image
from code_interpreter_client.models.results import Result


class Outcome:
    """Prints the text of an execution, and saves its images and files to `out`, unless that is None."""

    def __init__(self, client: Client, out: Path | None) -> None:
        self._client = client
        self._out = out
        self._printer = Printer()
        self._images = 0
        self._unsaved = 0

    def show(self, event: Event) -> None:
        """Print or save the content of an event."""
        match event:
            case Printed():
                self._printer.write(event.stream, event.text)
            case Cleared():
                self._printer.clear(wait=event.wait)
            case Shown():
                self._show_output(event)

    def _show_output(self, output: Shown) -> None:
        if output.images:
            self._save_image(output.images[0])
        elif output.output_type == "display_data" and output.text:
            # The value of a last line is part of the printed text.
            # A display begins a line of its own, wherever the text before it ended.
            self.end_line()
            self._printer.write("stdout", output.text.rstrip("\n") + "\n")

    def _save_image(self, image: Image) -> None:
        if self._out is None:
            self._unsaved += 1
            return
        self._out.mkdir(parents=True, exist_ok=True)
        self._note(f"[image: {image.save(self._free_name(image.extension))}]")

    def _free_name(self, extension: str) -> Path:
        """Return the path for the next image. An image never replaces a file."""
        assert self._out is not None
        while True:
            self._images += 1
            path = self._out / f"image-{self._images}.{extension}"
            if not path.exists():
                return path

    def _note(self, text: str) -> None:
        """Print a line on stderr that is not the code's."""
        self._printer.write("stderr", ("" if self._printer.at_line_start else "\n") + one_line(text) + "\n")

    def end_line(self) -> None:
        """Print a line end if the last text had none."""
        if not self._printer.at_line_start:
            self._printer.write("stdout", "\n")

    def close(self, result: Result) -> None:
        """Save the result's files, and report what was not saved."""
        for file in result.files if self._out is not None else ():
            assert self._out is not None
            target = path_beneath(self._out, file.path)
            with receiving(file.path, file.size_bytes) as progress:
                self._client.download_file(file, target, progress=progress)
            self._note(f"[file: {target}]")
        for skipped in result.skipped_files:
            report(f"{skipped.path} was not returned: {skipped.reason}")
        names = [file.path for file in result.files] if self._out is None else []
        if self._unsaved:
            names.insert(0, f"{self._unsaved} image" + "s" * (self._unsaved > 1))
        if names:
            report(f"not saved: {', '.join(names)}. Use --out DIR to save files and images.")
