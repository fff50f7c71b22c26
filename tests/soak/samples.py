"""Memory and descriptors of the gateway over time, and whether they are flat."""

import pathlib
import statistics
import threading
import time

INTERVAL_S = 1
# Of the whole time: until then pools, caches and the allocator fill up.
WARM_UP_SHARE = 0.25
# What the second half may hold more than the first one, by their medians. An allocator's arenas
# need some of it; a leak of 1 KiB a statement would be 40 MiB in three minutes.
GROWTH_MIB_MAX = 16
GROWTH_DESCRIPTORS_MAX = 8


def rss_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def descriptors(pid):
    return sum(1 for _ in pathlib.Path(f"/proc/{pid}/fd").iterdir())


class Samples:
    """`with Samples(pid) as samples:` takes one a second, on a thread of its own."""

    def __init__(self, pid):
        self.pid = pid
        self.taken = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._take)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()

    def _take(self):
        began = time.monotonic()
        while not self._is_over.wait(INTERVAL_S):
            self.taken.append((time.monotonic() - began, rss_mib(self.pid), descriptors(self.pid)))

    def halves(self):
        """Medians of memory and descriptors in both halves of the time after the warm-up."""
        warm = self.taken[int(len(self.taken) * WARM_UP_SHARE):]
        middle = len(warm) // 2

        def medians(samples):
            return tuple(statistics.median(column) for column in list(zip(*samples))[1:])

        return medians(warm[:middle]), medians(warm[middle:])
