"""`python -m p2pcap` is the `p2pcap` command."""

from p2pcap.cli.main import main

if __name__ == "__main__":
    main()
