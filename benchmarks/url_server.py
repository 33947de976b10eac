"""The server of `benchmarks.url_fetch`: the same 50 kB for every path, 50 ms after each request. Run as a program."""

import trio

from benchmarks.url_fetch import LATENCY, SIZE

BODY = b"\xff\xd8\xff" + bytes(SIZE - 3)
IMAGE = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % SIZE + BODY
NO_RULES = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


async def _serve(stream: trio.SocketStream) -> None:
    data = b""
    async with stream:
        while part := await stream.receive_some(65_536):
            data += part
            while b"\r\n\r\n" in data:
                request, _, data = data.partition(b"\r\n\r\n")
                await trio.sleep(LATENCY)
                await stream.send_all(NO_RULES if b"/robots.txt " in request else IMAGE)


async def main() -> None:
    """Says where it listens, then serves until it is ended."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}", flush=True)
    await trio.serve_listeners(_serve, listeners)


if __name__ == "__main__":
    trio.run(main)
