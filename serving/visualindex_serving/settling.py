"""What a replica's process does once it has opened, before it answers: its threads and its memory are set for answering."""

import gc
import sys

_TURN_S = 0.0005


def settle() -> None:
    """Leave the collector only what is made from now on, and let threads take turns ten times as often.

    Nothing is answered while the collector walks the objects of Ray, the frameworks and the encoder, which came every few
    thousand searches. And a thread that computes keeps the interpreter from the one that answers for up to a turn. For a
    process of one replica alone: what ends later and refers to itself in a cycle is not freed.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # the collector waits until a quarter of what it last found has come: of nearly nothing from now on
    sys.setswitchinterval(_TURN_S)
