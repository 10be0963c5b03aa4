"""Backbone: the built-in encoder with its class token in the place of the mean over patches."""

from dataclasses import replace

from cytolora.models.backbones.registry import NANO

NANO_CLS = replace(NANO, name="nano-cls", pool="cls", description="The built-in encoder nano, read at its class token.")
"""Of weights of one's own: ``weights`` names a file of the package, ``hub`` one on the hub."""
