"""Which of several things a client wants, from the fields `accept` and `accept-language`."""

from collections.abc import Callable, Iterable, Sequence

__all__ = ["best_language", "best_media_type"]


def best_media_type(fields: Sequence[str], offers: Sequence[str]) -> str | None:
    """The offer of the highest quality, the first among equals; None if none is acceptable."""
    ranges = list(_weighted(fields))
    if not ranges:
        return offers[0] if offers else None

    def quality(offer: str) -> float:
        main, _, sub = offer.partition(";")[0].strip().lower().partition("/")
        # The most specific range counts: text/html before text/* before */*.
        best = (-1, 0.0)
        for name, weight in ranges:
            range_main, _, range_sub = name.partition("/")
            if (range_main, range_sub) == (main, sub):
                best = max(best, (2, weight))
            elif range_main == main and range_sub == "*":
                best = max(best, (1, weight))
            elif name in ("*/*", "*"):
                best = max(best, (0, weight))
        return best[1]

    return _best(offers, quality)


def best_language(fields: Sequence[str], offers: Sequence[str]) -> str | None:
    """The offer of the highest quality, the first among equals; None if none is acceptable."""
    ranges = list(_weighted(fields))
    if not ranges:
        return offers[0] if offers else None

    def quality(offer: str) -> float:
        tag = offer.lower()
        best = (-1, 0.0)
        for name, weight in ranges:
            if name == "*":
                best = max(best, (0, weight))
            elif name == tag or tag.startswith(f"{name}-") or name.startswith(f"{tag}-"):
                best = max(best, (min(len(name), len(tag)), weight))
        return best[1]

    return _best(offers, quality)


def _best(offers: Sequence[str], quality: Callable[[str], float]) -> str | None:
    found = max(offers, key=quality, default=None)
    return found if found is not None and quality(found) > 0 else None


def _weighted(fields: Sequence[str]) -> Iterable[tuple[str, float]]:
    """Names in lower case with their quality; what is malformed is left out."""
    for field in fields:
        for part in field.split(","):
            name, *parameters = (piece.strip() for piece in part.split(";"))
            weight = 1.0
            for parameter in parameters:
                key, _, value = parameter.partition("=")
                if key.strip().lower() == "q":
                    try:
                        weight = float(value)
                    except ValueError:
                        weight = 0.0
            if name and 0 <= weight <= 1:
                yield name.lower(), weight
