"""A module in a package, with an import inside of a function."""


def greet(text: str, name: str) -> str:
    from . import punctuation

    return f"{text}, {name}{punctuation.MARK}"
