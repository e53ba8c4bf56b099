"""What a worker gives up before it sees the first untrusted byte."""

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

# The interpreter and its libraries; measured at 0.13 GB of address space before the first image.
_BASE_ADDRESS_SPACE = 768 * 1024**2
# The hungriest path (an animated WebP: two RGBA canvases, the decoded picture and its RGB copy) and half as much again.
_BYTES_PER_PIXEL = 24


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; exits at once if it has already ended."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def confine(image_pixels: int, image_bytes: int, shared_bytes: int) -> None:
    """Give up new privileges, new files, core dumps, and memory beyond what the largest allowed image needs."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    memory = _BASE_ADDRESS_SPACE + image_pixels * _BYTES_PER_PIXEL + image_bytes * 4 + shared_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))


def allow_cpu(seconds: int) -> None:
    """Let this process use `seconds` of CPU time more; beyond it the kernel ends it with SIGXCPU.

    The pool's own timeout comes first: this holds when the pool is gone or stuck.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, hard))


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}, {value}) failed: {os.strerror(error)}")
