"""Network namespaces with one TUN device each: the kernel's side of a test network.

This is the part that needs privileges: CAP_SYS_ADMIN for `ip netns add`, CAP_NET_ADMIN for the devices. What it hands
out, a file descriptor that reads and writes IP packets, needs none.

Always holds: a namespace is named after the process that made it and like no other, and is gone when that process
leaves the block; those of processes that are no more are removed by the next that comes.
"""

import ctypes
import errno
import fcntl
import itertools
import os
import re
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

NAMESPACES = Path("/run/netns")
PREFIX = "p2pcap"
TUN = "/dev/net/tun"
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_numbers = itertools.count(1)
"""Hosts of several networks may have one name."""


def ip(*arguments: str, input: str | None = None) -> str:
    """Run iproute2's `ip`; what it wrote. Raises CalledProcessError."""
    return subprocess.run(["ip", *arguments], input=input, capture_output=True, text=True, check=True).stdout


def skip_unless_allowed() -> None:
    """Skip the test, with the kernel's reason, where this process may make no namespace or device."""
    try:
        with namespace("may", "45.0.0.1"):
            pass
    except subprocess.CalledProcessError as error:
        if not re.search("not permitted|denied", error.stderr):
            raise
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise
        pytest.skip(f"no network namespaces here: {error}")


def sweep() -> None:
    """Remove the namespaces of processes that were killed before they could, and what still runs in them."""
    for entry in NAMESPACES.glob(f"{PREFIX}-*") if NAMESPACES.exists() else ():
        pid = entry.name.split("-")[1]
        if not Path("/proc", pid).exists():
            _delete(entry.name)


def in_namespace(namespace: str) -> list[str]:
    """What to put before a command so that it runs there, as the same process."""
    return ["ip", "netns", "exec", namespace]


def socket_in(namespace: str, kind: socket.SocketKind) -> socket.socket:
    """An IPv4 socket of that namespace, to be used from here: it stays where it was made, and a thread goes there."""
    made: list[socket.socket] = []
    thread = threading.Thread(target=lambda: made.append(_make_socket(namespace, kind)))
    thread.start()
    thread.join()
    return made[0]


def _make_socket(namespace: str, kind: socket.SocketKind) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(NAMESPACES / namespace, "rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):  # of this thread alone
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    return socket.socket(socket.AF_INET, kind)


@contextmanager
def namespace(host: str, address: str) -> Iterator[tuple[str, int]]:
    """A namespace's name, and the descriptor (non-blocking) of the device that everything from `address` goes out by.

    Congestion control is the one that every kernel has, whatever this machine's is: it decides what 5 % loss costs.
    """
    name = f"{PREFIX}-{os.getpid()}-{next(_numbers)}-{host}"
    ip("netns", "add", name)
    try:
        device = _open_device(name)
        try:
            up = (
                "link set lo up",
                f"address add {address}/32 dev eth0",
                "link set eth0 up",
                "route add default dev eth0",
            )
            ip("-netns", name, "-batch", "-", input="\n".join(up))
            choose = "echo reno > /proc/sys/net/ipv4/tcp_congestion_control"
            subprocess.run([*in_namespace(name), "sh", "-c", choose], check=True)
            yield name, device
        finally:
            os.close(device)
    finally:
        _delete(name)


def _open_device(namespace: str) -> int:
    """A TUN device is made here and moved there; whoever has its descriptor needs not be there."""
    with ExitStack() as failing:
        device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        failing.callback(os.close, device)
        asked = struct.pack("16sH22x", b"p2pcap%d", _IFF_TUN | _IFF_NO_PI)  # the kernel puts a number for %d
        made = fcntl.ioctl(device, _TUNSETIFF, asked)[:16].rstrip(b"\0").decode()
        ip("link", "set", made, "netns", namespace, "name", "eth0")
        failing.pop_all()
    return device


def _delete(name: str) -> None:
    for pid in ip("netns", "pids", name).split():
        os.kill(int(pid), signal.SIGKILL)
    ip("netns", "delete", name)
