"""What covet-host gives to applications: figures, configuration, random numbers.

Each function raises HostUnavailable while a module is imported, because a component is built without a host.
"""

from ._guest.bridge import Traffic, Usage
from ._guest.bridge import host as _host

__all__ = ["Traffic", "Usage", "config", "metrics", "random_seed", "statistics"]


def metrics() -> Usage:
    """What the instances of this application use together: requests, memory in bytes, processor time in microseconds."""
    return _host.metrics()


def statistics() -> Traffic:
    """How this application answers, over all its instances since it was loaded; `covet.metrics.Metrics` explains it."""
    return _host.statistics()


def config(key: str) -> str | None:
    """A value that the operator gave to this application, None if there is none of that name."""
    return _host.config(key)


def random_seed() -> bytes:
    """32 fresh bytes from the system, different at every call, even where instances start from one snapshot."""
    return _host.random_seed()
