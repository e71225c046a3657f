"""The image that containers are launched from: find it, pull it, check it, and notice when it is replaced."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sessions.containers.engine import Engine
from sessions.containers.engine_facts import Image
from sessions.containers.errors import ImageNotFound, ImageUnfit
from sessions.containers.image_check import judge, own_digest
from sessions.containers.image_pull import PullProgress

log = logging.getLogger(__name__)

Pull = Literal["missing", "always", "never"]

_REPORT_SEC: Final = 5.0
_PULL_AGAIN_SEC: Final = 10.0
_TRY_AGAIN_SEC: Final = 30.0
_HELP: Final = "Build it (`make image`), load it or pull it: the service finds it by itself"


@dataclass(frozen=True)
class ImageStatus:
    """The image in use, with warnings about it."""

    name: str
    image: Image
    warnings: tuple[str, ...]


class ImageCare:
    """Call `find` once at the start, then `look` from time to time."""

    def __init__(self, engine: Engine, name: str, pull: Pull, version: str) -> None:
        """`version` is the service's own version."""
        self.problem: str | None = None
        """Why no container can be launched from the image now; None if one can."""
        self._engine = engine
        self._name = name
        self._pull_policy = pull
        self._version = version
        self._digest = own_digest()
        self._image: Image
        self._warnings: tuple[str, ...] = ()
        """Warnings about the labels of the image in use."""
        self._notice: str | None = None
        """Warning about the image's name: it is gone, or stands for another image."""
        self._refused: str | None = None
        """Id of an image that has the name and must not be used."""
        self._reported: str | None = None
        """Id of the new image that was logged last."""
        self._refused_until = self._next_pull = 0.0

    def status(self) -> ImageStatus:
        """Return what the log and `GET /ready` show."""
        notices = () if self._notice is None else (self._notice,)
        return ImageStatus(self._name, self._image, self._warnings + notices)

    @property
    def _may_pull(self) -> bool:
        # An image with a plain name was built on this machine: no registry has it.
        return self._pull_policy != "never" and "/" in self._name

    # --- at the start -----------------------------------------------------------------------------

    async def find(self) -> Image:
        """Return the image to start with; pull it if the settings say so.

        Raises:
            ImageNotFound: the engine does not have it, and it could not be pulled.
            ImageUnfit: it does not work with this service.
        """
        found = await self._engine.image(self._name)
        if self._may_pull and (found is None or self._pull_policy == "always"):
            try:
                await self._pull()
            except ImageNotFound:
                if found is None:
                    raise
            found = await self._engine.image(self._name)
        if found is None:
            raise ImageNotFound(self._name)
        self.use(found)
        return found

    def use(self, image: Image) -> None:
        """Make an image the one in use.

        Raises:
            ImageUnfit: it does not work with this service.
        """
        self._warnings = self._judge(image)
        for warning in self._warnings:
            log.warning("the kernel image %s: %s", self._name, warning)
        self._image = image
        self._forget_problems()

    def _judge(self, image: Image) -> tuple[str, ...]:
        verdict = judge(image, self._version, self._digest)
        if verdict.unfit is not None:
            raise ImageUnfit(self._name, verdict.unfit)
        return verdict.warnings

    # --- later ------------------------------------------------------------------------------------

    async def check(self) -> Image | None:
        """Return another image that has the name now and may replace the one in use; None if there is none.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        found = await self._engine.image(self._name)
        if found is None and self._may_pull and time.monotonic() >= self._next_pull:
            with contextlib.suppress(ImageNotFound):
                await self._pull()
            found = await self._engine.image(self._name)
        if found is not None and found.image_id == self._image.image_id:
            if self.problem is not None or self._notice is not None:
                log.info("the kernel image %s is there again: %s", self._name, found.image_id)
            self._forget_problems()
            return None
        if found is not None and not self._is_refused(found):
            return self._replacement(found)
        if await self._engine.image(self._image.image_id) is None:
            self.missing()
        elif found is None:
            self._warn(f"its name is gone; {self._image.image_id} is used while that exists")
        return None

    def _forget_problems(self) -> None:
        self.problem = self._notice = self._refused = self._reported = None

    def missing(self) -> None:
        """Record that nothing can be launched, because the image is gone."""
        problem = str(ImageNotFound(self._name))
        if self.problem != problem:
            log.error("%s. %s.", problem, _HELP)
        self.problem = problem

    def _is_refused(self, image: Image) -> bool:
        return image.image_id == self._refused and time.monotonic() < self._refused_until

    def _replacement(self, found: Image) -> Image | None:
        if found.image_id != self._reported:
            self._reported, old = found.image_id, self._image.image_id
            log.warning("the kernel image %s was replaced: %s, until now %s", self._name, found.image_id, old)
        try:
            self._judge(found)
        except ImageUnfit as error:
            self.refuse(found, error.reason)
            return None
        return found

    def refuse(self, image: Image, reason: str) -> None:
        """Record that the image that has the name must not be used. It is tried again later."""
        self._refused = image.image_id
        self._refused_until = time.monotonic() + _TRY_AGAIN_SEC
        in_use, reason = self._image.image_id, " ".join(reason.split()).rstrip(".")
        self._warn(f"{image.image_id} has its name now and is not used: {reason}. {in_use} is still used")

    def _warn(self, notice: str) -> None:
        if notice != self._notice:
            log.warning("the kernel image %s: %s. %s.", self._name, notice, _HELP)
        self._notice = notice

    # --- pulling ----------------------------------------------------------------------------------

    async def _pull(self) -> None:
        """Pull the image, and log the progress. Raise `ImageNotFound`, with the reason, if that fails."""
        before, self.problem = self.problem, f"pulling the kernel image {self._name}"
        log.info("%s", self.problem)
        began = time.monotonic()
        try:
            await self._engine.pull(self._name, self._progress_reporter())
        except ImageNotFound as error:
            log.warning("%s", error)
            raise
        finally:
            self.problem = before
            self._next_pull = time.monotonic() + _PULL_AGAIN_SEC
        log.info("the kernel image %s is pulled, after %.0f s", self._name, time.monotonic() - began)

    def _progress_reporter(self) -> Callable[[Mapping[str, Any]], None]:
        """Return a function that takes the engine's events, on a thread of the engine's."""
        progress, loop = PullProgress(), asyncio.get_running_loop()
        reported_at = time.monotonic() - _REPORT_SEC / 2

        def take(event: Mapping[str, Any]) -> None:
            nonlocal reported_at
            progress.take(event)
            if time.monotonic() - reported_at >= _REPORT_SEC:
                reported_at = time.monotonic()
                loop.call_soon_threadsafe(self._report, f"pulling the kernel image {self._name}: {progress}")

        return take

    def _report(self, text: str) -> None:
        log.info("%s", text)
        if self.problem is not None and self.problem.startswith("pulling"):
            self.problem = text
