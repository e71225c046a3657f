"""The image that kernels are launched from: found, pulled, checked, and followed while others change it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sessions.containers.engine import Engine
from sessions.containers.errors import ImageNotFound, ImageUnfit
from sessions.containers.image_check import judge, own_digest
from sessions.containers.image_pull import PullProgress
from sessions.models import Image

log = logging.getLogger(__name__)

Pull = Literal["missing", "always", "never"]

_TELL_SEC: Final = 5.0
_PULL_AGAIN_SEC: Final = 10.0
_TRY_AGAIN_SEC: Final = 30.0
_HELP: Final = "Build it (`make image`), load it or pull it: it is taken up by itself"


@dataclass(frozen=True)
class ImageStatus:
    """The image in use, and what is to be said of it."""

    name: str
    image: Image
    warnings: tuple[str, ...]


class ImageCare:
    """`find` it once at the start, then `look` again and again."""

    def __init__(self, engine: Engine, name: str, pull: Pull, version: str) -> None:
        """`version` is the service's own."""
        self.problem: str | None = None
        """Why no container can be launched from it now."""
        self._engine = engine
        self._name = name
        self._pull_policy = pull
        self._version = version
        self._digest = own_digest()
        self._image: Image
        self._warnings: tuple[str, ...] = ()
        """Of its labels."""
        self._notice: str | None = None
        """Of its name: gone, or given to another."""
        self._refused: str | None = None
        """Id of the image that has the name and is not used."""
        self._seen: str | None = None
        """Id of the image of which it was said that it has the name now."""
        self._refused_until = self._next_pull = 0.0

    def status(self) -> ImageStatus:
        """For people and for `/ready`."""
        notices = () if self._notice is None else (self._notice,)
        return ImageStatus(self._name, self._image, self._warnings + notices)

    @property
    def _may_pull(self) -> bool:
        # A plain name is that of an image made here: nobody's registry is asked for it.
        return self._pull_policy != "never" and "/" in self._name

    # --- at the start -----------------------------------------------------------------------------

    async def find(self) -> Image:
        """The image to start with, pulled if need be.

        Raises:
            ImageNotFound: neither there nor to be pulled.
            ImageUnfit: it cannot work.
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
        """Note that kernels are launched from it from now on. Raises `ImageUnfit`."""
        self._warnings = self._judge(image)
        for warning in self._warnings:
            log.warning("the kernel image %s: %s", self._name, warning)
        self._image = image
        self._all_well()

    def _judge(self, image: Image) -> tuple[str, ...]:
        verdict = judge(image, self._version, self._digest)
        if verdict.unfit is not None:
            raise ImageUnfit(self._name, verdict.unfit)
        return verdict.warnings

    # --- later ------------------------------------------------------------------------------------

    async def look(self) -> Image | None:
        """Another image that has the name by now and may be used in place of this one; None: no such.

        Raises:
            EngineUnavailable: nobody can tell.
        """
        found = await self._engine.image(self._name)
        if found is None and self._may_pull and time.monotonic() >= self._next_pull:
            with contextlib.suppress(ImageNotFound):
                await self._pull()
            found = await self._engine.image(self._name)
        if found is not None and found.image_id == self._image.image_id:
            if self.problem is not None or self._notice is not None:
                log.info("the kernel image %s is there again: %s", self._name, found.image_id)
            self._all_well()
            return None
        if found is not None and not self._is_refused(found):
            return self._other(found)
        if await self._engine.image(self._image.image_id) is None:
            self.missing()
        elif found is None:
            self._note(f"its name is gone; kernels go on with {self._image.image_id} while that is there")
        return None

    def _all_well(self) -> None:
        self.problem = self._notice = self._refused = self._seen = None

    def missing(self) -> None:
        """Note that nothing can be launched: the image is not there."""
        problem = str(ImageNotFound(self._name))
        if self.problem != problem:
            log.error("%s. %s.", problem, _HELP)
        self.problem = problem

    def _is_refused(self, image: Image) -> bool:
        return image.image_id == self._refused and time.monotonic() < self._refused_until

    def _other(self, found: Image) -> Image | None:
        if found.image_id != self._seen:
            self._seen, was = found.image_id, self._image.image_id
            log.warning("the kernel image %s was replaced: %s, until now %s", self._name, found.image_id, was)
        try:
            self._judge(found)
        except ImageUnfit as error:
            self.refuse(found, error.reason)
            return None
        return found

    def refuse(self, image: Image, reason: str) -> None:
        """Note that the image that has the name is not used; it may be tried again later."""
        self._refused = image.image_id
        self._refused_until = time.monotonic() + _TRY_AGAIN_SEC
        in_use, reason = self._image.image_id, " ".join(reason.split()).rstrip(".")
        self._note(f"{image.image_id} has its name now and is not used: {reason}. Still {in_use} is used")

    def _note(self, notice: str) -> None:
        if notice != self._notice:
            log.warning("the kernel image %s: %s. %s.", self._name, notice, _HELP)
        self._notice = notice

    # --- pulling ----------------------------------------------------------------------------------

    async def _pull(self) -> None:
        """Pull it, and say how far that is. Raises `ImageNotFound` with the reason."""
        before, self.problem = self.problem, f"pulling the kernel image {self._name}"
        log.info("%s", self.problem)
        began = time.monotonic()
        try:
            await self._engine.pull(self._name, self._teller())
        except ImageNotFound as error:
            log.warning("%s", error)
            raise
        finally:
            self.problem = before
            self._next_pull = time.monotonic() + _PULL_AGAIN_SEC
        log.info("the kernel image %s is pulled, after %.0f s", self._name, time.monotonic() - began)

    def _teller(self) -> Callable[[Mapping[str, Any]], None]:
        """What takes the engine's events, on a thread of the engine's."""
        progress, loop = PullProgress(), asyncio.get_running_loop()
        told_at = time.monotonic() - _TELL_SEC / 2

        def take(event: Mapping[str, Any]) -> None:
            nonlocal told_at
            progress.take(event)
            if time.monotonic() - told_at >= _TELL_SEC:
                told_at = time.monotonic()
                loop.call_soon_threadsafe(self._tell, f"pulling the kernel image {self._name}: {progress}")

        return take

    def _tell(self, text: str) -> None:
        log.info("%s", text)
        if self.problem is not None and self.problem.startswith("pulling"):
            self.problem = text
