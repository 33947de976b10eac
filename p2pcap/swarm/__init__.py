"""The network layer, and the only package that knows libp2p.

What the rest of the program needs is in `p2pcap.swarm.swarm` (open a swarm, publish, fetch), `p2pcap.swarm.service`
(what the node answers with) and `p2pcap.swarm.messages` (what travels). Importing this package alone loads nothing
heavy.
"""
