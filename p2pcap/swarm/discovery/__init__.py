"""Where addresses of peers come from besides the ticket and other peers: last time, the LAN, DNS, a DHT.

Every source runs by itself and hands what it finds to a plain callable; the dialer decides whom to dial. A source that
does not work here (no multicast, no DNS) says so in one line and never ends the node.
"""
