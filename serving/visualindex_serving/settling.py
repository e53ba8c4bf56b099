"""A replica that has opened keeps what it holds then: Python's collector need not walk all of it again and again."""

import gc


def settle() -> None:
    """Leave the collector only what is made from now on.

    Nothing is answered while it walks the objects of Ray, the frameworks and the encoder, which came every few thousand
    searches. For a process of one replica alone: what ends later and refers to itself in a cycle is not freed.
    """
    gc.collect()
    gc.freeze()
