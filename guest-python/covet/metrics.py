"""How an application answers: how many requests, how many a second, how long they take.

The host counts, since it sees every request of the application in all its instances.
"""

from ._guest.bridge import host as _host

__all__ = ["Metrics"]


class Metrics:
    """The figures of the whole application, over all its instances and the host's threads, since it was loaded.

    Each attribute asks the host when it is read, so a `Metrics` never grows old, and two attributes may be of different
    moments; `as_dict` takes all of them at one moment. Each raises HostUnavailable where there is no host, for example
    while a module is imported.

    A request counts when the head of its response is ready, so the one that asks is active but not yet counted. The
    answers that the host gives itself count too: 404 where no route has the path, 405, 413, and 502 to 504 where the
    application failed, was too slow or had no room.

    The latency of a request is the time from its head having been read to the head of its response being ready. Waiting
    for an instance and the handler are in it, and so is reading a body of up to 16 KiB; sending the response is not.
    Latencies are in milliseconds, and 0.0 while nothing was answered. The mean is exact, percentiles are within 1/32.
    """

    __slots__ = ()

    @property
    def total_requests(self) -> int:
        """Requests that were answered."""
        return _host.statistics().answered

    @property
    def requests_per_second(self) -> float:
        """Requests that were answered in the second that runs and the nine before it, divided by the length of that time.

        While the application is younger, by its age, but by one second at least.
        """
        return _host.statistics().per_second

    @property
    def active_requests(self) -> int:
        """Requests under way, this one included: until the last byte of a response's body."""
        return _host.statistics().active

    @property
    def abandoned_requests(self) -> int:
        """Requests whose client left before there was an answer. They are in no other figure."""
        return _host.statistics().abandoned

    @property
    def client_errors(self) -> int:
        """Requests that were answered with a status of 400 to 499."""
        return _host.statistics().client_errors

    @property
    def server_errors(self) -> int:
        """Requests that were answered with a status of 500 to 599."""
        return _host.statistics().server_errors

    @property
    def mean_latency_ms(self) -> float:
        """All latencies together, divided by their number."""
        return _host.statistics().latency_mean_ms

    @property
    def p50_latency_ms(self) -> float:
        """Half of the requests took no longer."""
        return _host.statistics().latency_p50_ms

    @property
    def p95_latency_ms(self) -> float:
        """95 of 100 requests took no longer."""
        return _host.statistics().latency_p95_ms

    @property
    def p99_latency_ms(self) -> float:
        """99 of 100 requests took no longer."""
        return _host.statistics().latency_p99_ms

    def as_dict(self) -> dict[str, int | float]:
        """All attributes by their names, at one moment."""
        traffic = _host.statistics()
        return {
            "total_requests": traffic.answered,
            "requests_per_second": traffic.per_second,
            "active_requests": traffic.active,
            "abandoned_requests": traffic.abandoned,
            "client_errors": traffic.client_errors,
            "server_errors": traffic.server_errors,
            "mean_latency_ms": traffic.latency_mean_ms,
            "p50_latency_ms": traffic.latency_p50_ms,
            "p95_latency_ms": traffic.latency_p95_ms,
            "p99_latency_ms": traffic.latency_p99_ms,
        }

    def __repr__(self) -> str:
        if not _host.live:
            return "<Metrics of no host>"
        return f"<Metrics {self.as_dict()}>"
