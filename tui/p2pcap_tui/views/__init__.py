"""The screens, by their digits."""

from p2pcap_tui.views.base import View
from p2pcap_tui.views.captions import Captions
from p2pcap_tui.views.contributors import Contributors
from p2pcap_tui.views.log import Log
from p2pcap_tui.views.overview import Overview
from p2pcap_tui.views.peers import Peers
from p2pcap_tui.views.project import Project
from p2pcap_tui.views.query import Query
from p2pcap_tui.views.work import Work

VIEWS: tuple[type[View], ...] = (Overview, Peers, Work, Captions, Contributors, Log, Query, Project)
"""In the order of their digits."""
