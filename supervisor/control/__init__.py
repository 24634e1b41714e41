"""The control socket: its protocol, the master's end and the client's."""
