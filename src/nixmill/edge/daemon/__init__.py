"""Nix daemons: the doors Store and Builder over the worker protocol."""

from nixmill.edge.daemon.builder import DaemonBuilder
from nixmill.edge.daemon.settings import DaemonSettings
from nixmill.edge.daemon.store import DaemonStore, open_store

__all__ = ["DaemonBuilder", "DaemonSettings", "DaemonStore", "open_store"]
