"""A replica that has opened keeps what it holds then: Python's collector need not walk all of it again and again."""

import gc


def settle() -> None:
    """Leave the collector only what is made from now on.

    Walking the objects of Ray, the frameworks and the encoder takes a quarter of a second, in which nothing is answered,
    and it came every few thousand searches. For a process of one replica alone: what ends later and refers to itself in a
    cycle is not freed.
    """
    gc.collect()
    gc.freeze()
