"""The engine's process: `python -m p2pcap.engine.process FD`, FD being its end of the socket pair to the node.

asyncio runs here, because vLLM does; trio runs in the node, and the two meet only on the socket. The process ends with
status frames.DIED when what runs the model goes away (vLLM's own processes, or all servers), and with every process of
its group when the node's end of the socket is closed: nobody is left to caption for.
"""

import asyncio
import os
import select
import socket
import sys
import threading

from p2pcap.engine import frames, group
from p2pcap.engine.device import remove_scratch
from p2pcap.engine.service import Host, Service
from p2pcap.errors import ConfigError, EngineStartError, ModelError


def main() -> None:
    """Serve the node; the exit status says why that ended."""
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)  # vLLM's processes must not keep the connection open
    threading.Thread(target=_end_with_node, args=(end.fileno(),), daemon=True, name="node watch").start()
    status = asyncio.run(_serve(end))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # vLLM's threads and finalizers have nothing left to do, and some would only print errors


def _end_with_node(fd: int) -> None:
    """Waits, outside the event loop that an import or a load may block, for the node's end of the socket to close."""
    hang_up = select.poll()
    hang_up.register(fd, select.POLLRDHUP)
    hang_up.poll()
    group.kill_others(os.getpgid(0))
    remove_scratch()  # after the others, which would go on writing into it
    group.kill(os.getpgid(0))


async def _serve(end: socket.socket) -> int:
    start = _read_start(end)
    os.nice(start.settings.nice)
    try:
        host = await _host(start, end)
        answering = host.answering(start.task)
    except (ConfigError, EngineStartError) as error:
        end.sendall(frames.encode(frames.Refused(str(error), isinstance(error, ModelError))))
        return frames.REFUSED
    end.sendall(frames.encode(frames.Ready(host.version, host.device, host.engine_class)))
    service = Service(host, answering, start.task_number)
    end.setblocking(False)
    await asyncio.get_running_loop().create_connection(service.protocol, sock=end)
    return await service.ended


def _read_start(end: socket.socket) -> frames.Start:
    """The node's first message. Blocks: nothing else happens in this process yet."""
    reader = frames.frames_to_engine()
    while True:
        for message in reader.feed(end.recv(frames.READ_BYTES)):
            if isinstance(message, frames.Start):
                return message


async def _host(start: frames.Start, end: socket.socket) -> Host:
    """What runs the model, ready for it. Raises ConfigError and EngineStartError; blocks while a model is loaded."""
    if start.settings.endpoints:
        return await _servers(start, end)
    end.sendall(frames.encode(frames.Progress("importing vLLM")))
    try:
        from p2pcap.engine.captioner import Captioner
    except Exception as error:  # importing vLLM loads drivers and native libraries, which raise anything
        raise EngineStartError(f"vLLM cannot be imported ({type(error).__name__}: {error}).") from error
    end.sendall(frames.encode(frames.Progress("loading the model")))
    return Captioner(start.model_dir, start.task, start.settings)


async def _servers(start: frames.Start, end: socket.socket) -> Host:
    from p2pcap.engine.openai import connect
    from p2pcap.engine.servers import PATIENCE

    end.sendall(frames.encode(frames.Progress("asking the servers for the model")))
    return await connect(start.task, start.settings, patience=PATIENCE if start.again else 0.0)


if __name__ == "__main__":
    main()
