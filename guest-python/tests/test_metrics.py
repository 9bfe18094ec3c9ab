import pytest
import simulator

from covet import CovetPy, host
from covet.exceptions import HostUnavailable
from covet.metrics import Metrics

#: What the simulated host tells, apart from the requests that were answered; it counts the start-up as one.
TOLD = {
    "requests_per_second": 1.5,
    "active_requests": 1,
    "abandoned_requests": 2,
    "client_errors": 3,
    "server_errors": 4,
    "mean_latency_ms": 0.25,
    "p50_latency_ms": 0.125,
    "p95_latency_ms": 8.0,
    "p99_latency_ms": 16.0,
}


def attributes() -> list[str]:
    return [name for name, value in vars(Metrics).items() if isinstance(value, property)]


@pytest.fixture
def instance(serve):
    app = CovetPy()
    # One for all requests, as an application has it.
    metrics = Metrics()

    @app.get("/dict")
    def as_dict():
        return metrics.as_dict()

    @app.get("/attributes")
    def each():
        return {name: getattr(metrics, name) for name in attributes()}

    @app.get("/host")
    def of_the_host():
        return host.statistics()

    return serve(app)


def test_the_figures_are_those_of_the_host_under_their_names(instance):
    assert instance.get("/dict").json() == {"total_requests": 1, **TOLD}
    assert instance.get("/attributes").json() == {"total_requests": 2, **TOLD}
    assert instance.get("/host").json() == {
        "active": 1,
        "answered": 3,
        "abandoned": 2,
        "client_errors": 3,
        "server_errors": 4,
        "per_second": 1.5,
        "latency_mean_ms": 0.25,
        "latency_p50_ms": 0.125,
        "latency_p95_ms": 8.0,
        "latency_p99_ms": 16.0,
    }


def test_a_view_asks_the_host_each_time(instance):
    assert [instance.get("/dict").json()["total_requests"] for _ in range(3)] == [1, 2, 3]
    assert [instance.get("/attributes").json()["total_requests"] for _ in range(2)] == [4, 5]


def test_as_dict_asks_the_host_once(serve, monkeypatch):
    app = CovetPy()

    @app.get("/")
    def index():
        Metrics().as_dict()
        return "done"

    instance = serve(app)
    asked = []
    call_import = instance.host.call_import

    def count(index, parameters):
        asked.append(index)
        return call_import(index, parameters)

    monkeypatch.setattr(instance.host, "call_import", count)
    instance.get("/")
    assert asked.count(simulator.STATISTICS) == 1


def test_without_a_host_there_are_no_figures(serve):
    serve(CovetPy(), startup=False)
    metrics = Metrics()
    for name in attributes():
        with pytest.raises(HostUnavailable, match=r"host\.statistics needs a running covet-host"):
            getattr(metrics, name)
    with pytest.raises(HostUnavailable):
        metrics.as_dict()
    with pytest.raises(HostUnavailable):
        host.statistics()
    assert repr(metrics) == "<Metrics of no host>"


def test_a_view_shows_its_figures(instance):
    instance.get("/dict")
    assert repr(Metrics()).startswith("<Metrics {'total_requests': 2, 'requests_per_second': 1.5, ")


def test_the_figures_cannot_be_set():
    with pytest.raises(AttributeError):
        Metrics().total_requests = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Metrics().other = 1  # type: ignore[attr-defined]
