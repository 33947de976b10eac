"""How many images to keep in flight, so that an engine's batch is always full and few wait before it.

An image in flight costs memory (its pixels) and, given back, work; too few of them and the model computes half-empty
batches. How many are enough changes with the work: a batch holds as many answers as its memory for keys and values
allows, several prompts make one image several requests, and an image being decoded feeds nobody yet.

Pure: what an engine tells goes in, a number comes out. Always holds: the number is at least 1, and never more than
what fills the whole batch and its reserve with images of one request each, and keeps all decoders at work.
"""

from collections import deque
from math import ceil

from p2pcap.engine.base import EngineLoad
from p2pcap.project.prompts import uses
from p2pcap.project.task import Task

RESERVE = 0.25
"""Requests beyond the batch, as a share of it: so many answers may end in one step of the model and are replaced in the
next."""

LEAST_RESERVE = 4.0

REPORTS = 8
"""So many reports in a row with requests waiting show how many the batch really holds; one alone may have come while a
burst was being read."""

GROWTH = 1.25
"""How fast a batch that ran dry is held to be larger than it was."""

SMOOTHING = 0.25
"""Weight of a new report in the mean of requests an image."""


class Feed:
    """The count for an engine that makes up to `batch` answers at once and decodes `decoders` images at once."""

    def __init__(self, task: Task, batch: int, decoders: int) -> None:
        self._batch = batch
        self._most_requests = float(len(task.prompts))
        self._requests = len(task.prompts) / depth(task)
        self._decoders = decoders
        self._decoding = decoders
        self._holds = float(batch)
        self._waited: deque[int] = deque(maxlen=REPORTS)
        self.capacity = self._enough()

    def told(self, load: EngineLoad, images: int) -> int:
        """The new `capacity`, after a report and with so many images in flight at that moment."""
        if load.running + load.waiting + load.decoding > 0:
            self._learn_requests(load.running + load.waiting, images - load.decoding)
            self._learn_batch(load, images)
            self._decoding = min(load.decoding, 2 * self._decoders)
            self.capacity = self._enough()
        return self.capacity

    def _learn_requests(self, requests: int, images: int) -> None:
        """How many requests an image in the model's hands has, in the mean: all prompts at once, or one by one."""
        if requests > 0 and images > 0:
            seen = min(max(requests / images, 1.0), self._most_requests)
            self._requests += SMOOTHING * (seen - self._requests)

    def _learn_batch(self, load: EngineLoad, images: int) -> None:
        """How many requests the batch holds: as many as run while others wait; more if none waits, all being here."""
        if load.waiting > 0:
            self._waited.append(load.running)
            if len(self._waited) == REPORTS:
                self._holds = max(1.0, max(self._waited))
        else:
            self._waited.clear()
            if images >= self.capacity:
                self._holds = self._holds * GROWTH + 1.0
        self._holds = min(self._holds, float(self._batch))

    def _enough(self) -> int:
        reserve = max(LEAST_RESERVE, self._holds * RESERVE)
        return max(1, ceil((self._holds + reserve) / self._requests) + self._decoding)


def depth(task: Task) -> int:
    """How many prompts of an image are asked one after the other at least, because each uses the one before."""
    depths: list[int] = []
    for number in range(len(task.prompts)):
        depths.append(1 + max((depths[earlier] for earlier in uses(task, number)), default=0))
    return max(depths)
