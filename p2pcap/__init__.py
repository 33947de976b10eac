"""p2pcap: a peer-to-peer volunteer client that captions image datasets.

The way of an image, and which package does which part of it, is told in docs/architecture.md.
"""

__version__ = "0.1.0"
