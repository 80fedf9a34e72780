"""Sockets and time: the event loop, connections, requestor and acceptor."""
