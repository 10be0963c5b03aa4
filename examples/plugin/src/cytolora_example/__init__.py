"""Plug-ins for cytolora: what its entry points name is loaded when a list or a name asks for it."""
