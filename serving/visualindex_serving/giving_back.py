"""Giving memory back to the machine once much of it was let go of.

The allocator keeps what was freed for what may come, in the arena of each thread that ever asked for some: each generation
that a shard loads would leave its share there.
"""

import ctypes
import gc
import logging

logger = logging.getLogger(__name__)


def give_back() -> None:
    """Free what refers to itself in a cycle, and give what is free back. Blocks for some milliseconds."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # lets other Python threads run meanwhile
    except AttributeError:
        logger.debug("this C library keeps freed memory to itself")
