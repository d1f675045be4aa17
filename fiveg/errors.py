"""The one root of what can go wrong in `fiveg`: each part has its own small family below it."""


class FivegError(Exception):
    """Base of all errors of this package: what, where, which value, what to do. Never holds a key."""
