"""An application with a heap of small objects, as a large program has after its imports.

Each worker collects three times before it tells that it is up: a collection
writes to the head of every object that it looks at.
"""

from __future__ import annotations

import gc
import os
import sys

import trivial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MEGABYTES = "BENCHMARK_HEAP"  # variable: how large the heap is to be


def built(size: int) -> list[dict[str, object]]:
    """About so many bytes, in objects of 50 to 200 each, as parsed documents and modules are."""
    heap: list[dict[str, object]] = []
    used = 0
    while used < size:
        record = {"name": f"record {len(heap)}", "tags": [len(heap), (len(heap), 0.5)]}
        used += sys.getsizeof(record) + sum(map(sys.getsizeof, record.values())) + 150  # what is in the list
        heap.append(record)
    return heap


HEAP = built(int(float(os.environ.get(MEGABYTES, "0")) * 1e6))


def run(worker: Any) -> None:
    """As a target."""
    for _ in range(3):
        gc.collect()
    trivial.tell()
    worker.wait()
