"""Margins of thresholds: kept from the image that sets them, for the last bits of a score differ between machines."""

_LOG_ODDS = 1e-3
"""Logits of one image differ by about 2e-5 between bundle and ONNX, alone and in a batch; with room to spare."""
_ROUNDING = 1e-12
"""Probabilities near 0 or 1 are told apart by no less."""
_DISTANCE = 1e-4
"""Features of length one differ by about 1e-6, and their distances, a root of a difference near 0, by more."""


def below(score: float) -> float:
    """Returns a threshold below a probability by more than it differs from machine to machine; never negative."""
    return max(score / 2, score - _margin(score))


def above(score: float) -> float:
    """Returns a threshold above a probability by more than it differs from machine to machine; 1 at most."""
    return min(1.0, score + _margin(score))


def beyond(distance: float) -> float:
    """Returns a threshold above the distance of two features of length one, likewise."""
    return distance + _DISTANCE


def _margin(score: float) -> float:
    """What a probability changes by when its log odds change by ``_LOG_ODDS``."""
    return _LOG_ODDS * score * (1 - score) + _ROUNDING
