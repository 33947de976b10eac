"""`python -m benchmarks.paced_server MODEL RATE`: a server with OpenAI's interface that runs no model.

It gives each question the same answer, RATE of them a second and no more, whatever the number of connections: an engine
of known speed that costs this machine next to nothing. It says its address, and ends when standard input is closed.
"""

import asyncio
import json
import sys

ANSWER = "A big red circle left of a small blue star on a white background, drawn with clear edges and plain colours."
USAGE = {"prompt_tokens": 64, "completion_tokens": 24, "total_tokens": 88}
MAX_HEAD = 64 * 1024


class Server:
    """Answers about `model`, one each `1 / rate` seconds."""

    def __init__(self, model: str, rate: float) -> None:
        self._model = model
        self._step = 1 / rate
        self._next = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until the other side hangs up."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(_length(head))
                body = json.dumps(await self._answer(head)).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, head: bytes) -> object:
        if head.startswith(b"GET"):
            return {"object": "list", "data": [{"id": self._model, "object": "model", "owned_by": "benchmarks"}]}
        await self._turn()
        message = {"role": "assistant", "content": ANSWER}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"object": "chat.completion", "model": self._model, "choices": [choice], "usage": USAGE}

    async def _turn(self) -> None:
        """Wait for this answer's time. After a pause nothing is made up for."""
        now = asyncio.get_running_loop().time()
        self._next = max(now, self._next + self._step)
        await asyncio.sleep(self._next - now)


def _length(head: bytes) -> int:
    fields = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in fields if name == b"content-length"), 0)


async def main() -> None:
    """Serve on a free port of loopback."""
    model, rate = sys.argv[1:]
    server = await asyncio.start_server(Server(model, float(rate)).serve, "127.0.0.1", 0, limit=MAX_HEAD)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
