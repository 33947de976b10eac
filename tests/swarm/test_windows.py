"""The window of a stream, with upstream's own code and with ours."""

import inspect

import pytest
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from p2pcap.swarm import windows
from tests.swarm.bare import ECHO, bare
from tests.swarm.twin import within

WINDOW = 256 * 1024
SHORT = [b"%d" % number for number in range(10)]


async def granted(chatty: bool) -> int:
    """What a peer may leave unread on a stream, after short messages or none."""
    async with bare() as one, bare() as other:
        await one.dial(other)
        stream = await one.host.new_stream(other.host.get_id(), [ECHO])
        for message in SHORT if chatty else ():
            await stream.write(message)
        (conn,) = other.connections(one)
        await one.ask(other, b"what was sent before is there now")
        return max(int(muxed.recv_window) for muxed in conn.muxed_conn.streams.values())


@pytest.mark.parametrize("chatty", [True, False])
@within(20)
async def test_short_messages_open_no_window(chatty: bool) -> None:
    assert await granted(chatty) <= WINDOW


@within(20)
async def test_upstream_opens_it_wide_for_the_name_of_a_protocol() -> None:
    windows.install()
    ours = YamuxStream._auto_tune_and_send_window_update
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "install", lambda: None)
        patch.setattr(YamuxStream, "_auto_tune_and_send_window_update", inspect.unwrap(ours))
        assert await granted(False) > 4 * WINDOW, "upstream mends this"
