"""What can go wrong in `node`: a small family, so that a caller can name what it handles."""


class NodeError(Exception):
    """Base of all errors of this package."""


class ConfigError(NodeError):
    """A configuration file is wrong. The text reads `file: key: what is allowed`."""


class ControlError(NodeError):
    """The control channel broke its rules or ended."""


class VerbError(NodeError):
    """A verb cannot be done. `code` is a name for programs, the text a sentence for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class SecretLeak(NodeError):
    """Something that must stay secret was about to leave in an event."""


class LinkError(NodeError):
    """A network device cannot be watched."""


class NetnsError(NodeError):
    """A namespace could not be made, entered or named."""
