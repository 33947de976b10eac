"""What p2pcap costs, measured beside what it could cost at best. See `python -m benchmarks --help`."""
