"""The radix tree of the Rust crate matchit 0.9.2 in Python, so that a path leads natively where the host leads it.

It is a translation of `tree.rs`, `escape.rs` and the messages of `error.rs`, step by step, because the order in which
routes came decides which of them a conflict names, and corners of the search are the host's behaviour too. It knows
neither methods nor percent-encoding: that is `_native.matching`. Text is handled as octets, one character each (latin-1), as
the crate handles bytes.

matchit is copyright (c) 2025 Ibraheem Ahmed, MIT License; it derives from httprouter, copyright (c) 2013 Julien Schmidt,
BSD 3-Clause License. The conditions of both are at the end of this file.
"""

import enum
from typing import Any

__all__ = ["Conflict", "InsertError", "Kind", "Tree"]


class InsertError(ValueError):
    """A pattern that the tree does not take; the message says why."""


class Conflict(InsertError):
    """Another pattern matches the same paths."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f"conflict with {pattern}")
        #: The other one, with literal braces written once.
        self.pattern = pattern


class Kind(enum.Enum):
    """What a node stands for."""

    ROOT = enum.auto()
    #: Literal text.
    STATIC = enum.auto()
    #: `{name}`: what follows is `/` or nothing.
    PARAM = enum.auto()
    #: `{name}` of which some are followed by more text in their segment; the children are what follows, longest first.
    SUFFIXED = enum.auto()
    #: `{*name}`
    CATCH_ALL = enum.auto()


class Pattern:
    """A pattern whose doubled braces are written once, and the places of those."""

    __slots__ = ("escaped", "text")

    def __init__(self, text: str, escaped: frozenset[int] = frozenset()) -> None:
        self.text = text
        self.escaped = escaped

    @classmethod
    def read(cls, source: str) -> "Pattern":
        """Reads what an author wrote."""
        text, escaped, i = source, set(), 0
        while i < len(text):
            if text[i] in "{}" and text[i + 1 : i + 2] == text[i]:
                text = text[:i] + text[i + 1 :]
                escaped.add(i)
            i += 1
        return cls(text, frozenset(escaped))

    def part(self, start: int, end: int | None = None) -> "Pattern":
        """The pattern from `start` to `end`."""
        text = self.text[start:end]
        return Pattern(text, frozenset(i - start for i in self.escaped if 0 <= i - start < len(text)))

    def is_escaped(self, i: int) -> bool:
        return i in self.escaped

    def replaced(self, start: int, end: int, by: str) -> "Pattern":
        moved = len(by) - (end - start)
        kept = (i for i in self.escaped if not start <= i < end)
        # Not `>=`: the crate leaves a literal brace where it was that comes right after a placeholder.
        return Pattern(self.text[:start] + by + self.text[end:], frozenset(i + moved if i > end else i for i in kept))

    def joined(self, other: "Pattern") -> "Pattern":
        return Pattern(self.text + other.text, self.escaped | {len(self.text) + i for i in other.escaped})

    def __len__(self) -> int:
        return len(self.text)


class Node:
    """A part of the paths that are in the tree."""

    __slots__ = ("children", "has_value", "indices", "kind", "names", "prefix", "priority", "value", "wild_child")

    def __init__(self, prefix: Pattern | None = None, kind: Kind = Kind.STATIC, priority: int = 0) -> None:
        self.prefix = prefix or Pattern("")
        self.kind = kind
        #: How many patterns go through the node; children with more come first.
        self.priority = priority
        #: Whether the last child is a placeholder.
        self.wild_child = False
        #: The first characters of the children that are literal text.
        self.indices: list[str] = []
        self.children: list[Node] = []
        self.has_value = False
        self.value: Any = None
        #: The names of the placeholders of the pattern that ends here: in the tree they are called a, b, c.
        self.names: list[str] = []

    def set_value(self, value: Any) -> None:
        self.has_value, self.value = True, value

    def fork(self, at: int) -> None:
        """Makes what comes after `at` a child."""
        child = Node(self.prefix.part(at), Kind.STATIC, self.priority - 1)
        child.has_value, child.value, child.names = self.has_value, self.value, self.names
        child.indices, child.children, child.wild_child = self.indices, self.children, self.wild_child
        self.has_value, self.value, self.names = False, None, []
        self.children, self.indices = [child], [self.prefix.text[at]]
        self.prefix, self.wild_child = self.prefix.part(0, at), False

    def add_child(self, child: "Node") -> int:
        """Adds a child, before a placeholder if there is one."""
        place = len(self.children) - 1 if self.wild_child and self.children else len(self.children)
        self.children.insert(place, child)
        return place

    def add_suffix_child(self, child: "Node") -> int:
        place = sum(len(other.prefix) >= len(child.prefix) for other in self.children)
        self.children.insert(place, child)
        return place

    def raise_priority(self, i: int) -> int:
        """Counts one more pattern through a child. Returns its new place."""
        self.children[i].priority += 1
        place = i
        while place > 0 and self.children[place - 1].priority < self.children[i].priority:
            place -= 1
        self.children.insert(place, self.children.pop(i))
        if place != i:
            self.indices.insert(place, self.indices.pop(i))
        return place

    def is_param(self) -> bool:
        return self.kind is Kind.PARAM or self.kind is Kind.SUFFIXED

    def has_prefixed_param(self) -> bool:
        """Whether in this segment there is a placeholder with text before it."""
        if self.kind is Kind.ROOT and not self.prefix.text:
            return False
        if self.prefix.text.endswith("/"):
            return any(child.has_prefixed_param() for child in self.children)
        return any(child.has_param() for child in self.children)

    def has_param(self) -> bool:
        """Whether there is a placeholder before the next slash."""
        if "/" in self.prefix.text:
            return False
        return self.is_param() or any(child.has_param() for child in self.children)

    def has_suffixed_param(self) -> bool:
        """Whether there is a placeholder with text after it before the next slash."""
        if self.kind is Kind.SUFFIXED:
            return True
        return any("/" not in child.prefix.text and child.has_suffixed_param() for child in self.children)

    def insert_route(self, rest: Pattern, value: Any, names: list[str]) -> None:
        """Puts a pattern here that shares nothing with what is in the tree."""
        node = self
        while True:
            wildcard = find_wildcard(rest)
            if wildcard is None:
                node.prefix = rest
                break
            start, end = wildcard
            if start > 0:
                node.prefix = rest.part(0, start)
            if rest.text[start + 1] == "*":
                if end != len(rest):
                    raise InsertError(CATCH_ALL)
                child = Node(rest.part(start), Kind.CATCH_ALL, 1)
                node.add_child(child)
                node.wild_child = True
                node = child
                break
            wild, rest = rest.part(start, end), rest.part(start)
            terminator = rest.text.find("/") + 1 or len(rest)
            suffix, rest = rest.part(len(wild), terminator), rest.part(terminator)
            if has_wildcard(suffix):
                raise InsertError(TWO_IN_SEGMENT)
            child = Node(wild, Kind.PARAM if suffix.text in ("", "/") else Kind.SUFFIXED, 1)
            node.add_child(child)
            node.wild_child = True
            node = child
            if suffix.text:
                child = Node(suffix, Kind.STATIC, 1)
                node.add_suffix_child(child)
                node = child
            if not rest.text:
                break
            if not begins_with_wildcard(rest):
                node.indices.append(rest.text[0])
                child = Node(priority=1)
                node.add_child(child)
                node = child
        node.set_value(value)
        node.names = names


class Tree:
    """Patterns with a value each."""

    def __init__(self) -> None:
        self.root = Node()

    def insert(self, pattern: str, value: Any) -> None:
        """Adds a pattern. Raises InsertError, of which Conflict is one; the tree is not to be used for more then than
        for what it held."""
        route, names = with_short_names(Pattern.read(pattern))
        root = self.root
        root.priority += 1
        if not root.has_value and not root.children:
            root.insert_route(route, value, names)
            root.kind = Kind.ROOT
            return
        _insert(root, route, value, names)

    def at(self, path: str) -> tuple[Any, list[str]] | None:
        """The value of the pattern that matches a path, and the values of its placeholders in their order."""
        node, backtracking = self.root, False
        params: list[str] = []
        skipped: list[tuple[Node, str, int]] = []
        while True:
            # Down the tree; `break` leads to the last placeholder that was passed over.
            while True:
                prefix = node.prefix.text
                if len(path) <= len(prefix):
                    if path == prefix and node.has_value:
                        return node.value, params
                    break
                if not path.startswith(prefix):
                    break
                previous, path = path, path[len(prefix) :]
                if not backtracking and path[0] in node.indices:
                    if node.wild_child:
                        skipped.append((node, previous, len(params)))
                    node = node.children[node.indices.index(path[0])]
                    continue
                if not node.wild_child:
                    break
                node = node.children[-1]
                if node.kind is Kind.CATCH_ALL:
                    return node.value, [*params, path]
                slash = path.find("/")
                if slash == 0:
                    # An empty segment is no value.
                    break
                if node.kind is Kind.PARAM:
                    if slash < 0:
                        if not node.has_value:
                            break
                        return node.value, [*params, path]
                    if len(node.children) != 1:
                        break
                    params.append(path[:slash])
                    path, node, backtracking = path[slash:], node.children[0], False
                    continue
                terminator = slash + 1 or len(path)
                child = _suffix_of(node, path[:terminator])
                if child is None:
                    if not node.has_value or slash >= 0:
                        break
                    return node.value, [*params, path]
                start = terminator - len(child.prefix)
                params.append(path[:start])
                path, node, backtracking = path[start:], child, False
            while skipped:
                candidate, before, count = skipped.pop()
                if before.endswith(path):
                    node, path, backtracking = candidate, before, True
                    del params[count:]
                    break
            else:
                return None


def _suffix_of(node: Node, segment: str) -> Node | None:
    """The longest literal text that ends a segment and leaves something for the placeholder."""
    for child in node.children:
        if len(child.prefix) < len(segment) and segment.endswith(child.prefix.text):
            return child
    return None


def _insert(root: Node, route: Pattern, value: Any, names: list[str]) -> None:
    """Follows what is in the tree already as far as it goes."""
    rest, parent, node = route, None, root
    while True:
        common = _common(rest, node.prefix)
        if len(node.prefix) > common:
            node.fork(common)
            continue
        if len(rest) == common:
            if node.has_value:
                raise _conflict(route, rest, node)
            node.set_value(value)
            node.names = names
            return
        before, rest = rest, rest.part(common)
        if node.is_param():
            child = _insert_suffix(parent, node, route, before, rest, value, names)
            if child is None:
                return
            parent, node = node, child
            continue
        # `}` alone is in no pattern, and `{` alone begins a placeholder.
        if rest.text[0] in node.indices and (rest.text[0] not in "{}" or rest.is_escaped(0)):
            place = node.raise_priority(node.indices.index(rest.text[0]))
            parent, node = node, node.children[place]
            continue
        if not begins_with_wildcard(rest) and node.kind is not Kind.CATCH_ALL:
            _check_segment(node, route, rest)
            node.indices.append(rest.text[0])
            place = node.raise_priority(node.add_child(Node()))
            node.children[place].insert_route(rest, value, names)
            return
        if node.wild_child:
            parent, node = node, node.children[-1]
            node.priority += 1
            _check_wild_child(parent, node, route, rest)
            continue
        if (wildcard := find_wildcard_or_none(rest)) is not None:
            suffix = rest.text[wildcard[1] :]
            if suffix not in ("", "/") and node.has_prefixed_param():
                raise _conflict(route, rest, node)
            if common and before.text[common - 1] != "/" and node.has_suffixed_param():
                raise _conflict(route, rest, node)
        node.insert_route(rest, value, names)
        return


def _insert_suffix(
    parent: Node | None, node: Node, route: Pattern, before: Pattern, rest: Pattern, value: Any, names: list[str]
) -> Node | None:
    """Goes on behind a placeholder: the child to follow, None when everything is inserted."""
    terminator = rest.text.find("/") + 1 or len(rest)
    suffix = rest.part(0, terminator)
    text, extra_slash = suffix.text, False
    for child in node.children:
        if child.prefix.text == text:
            child.priority += 1
            return child
        if text == child.prefix.text + "/" or child.prefix.text == text + "/":
            extra_slash = True
    if not extra_slash and text not in ("", "/") and parent is not None and parent.has_prefixed_param():
        raise _conflict(route, before, parent)
    if has_wildcard(suffix):
        raise InsertError(TWO_IN_SEGMENT)
    child = Node(suffix, Kind.STATIC, 1)
    node.add_suffix_child(child)
    if text not in ("", "/"):
        node.kind = Kind.SUFFIXED
    if terminator == len(rest):
        child.set_value(value)
        child.names = names
        return None
    rest = rest.part(terminator)
    if not begins_with_wildcard(rest):
        literal = Node(priority=1)
        child.add_child(literal)
        child.indices.append(rest.text[0])
        child = literal
    child.insert_route(rest, value, names)
    return None


def _check_segment(node: Node, route: Pattern, rest: Pattern) -> None:
    """Refuses text before a placeholder beside text behind one, and the other way round."""
    terminator = rest.text.find("/")
    segment = rest if terminator < 0 else rest.part(0, terminator)
    wildcard = find_wildcard_or_none(segment)
    if wildcard is None:
        return
    if wildcard[0] > 0 and node.has_suffixed_param():
        raise _conflict(route, rest, node)
    if segment.text[wildcard[1] :] not in ("", "/") and node.has_prefixed_param():
        raise _conflict(route, rest, node)


def _check_wild_child(parent: Node, node: Node, route: Pattern, rest: Pattern) -> None:
    """Whether a pattern may go on in the placeholder that is there."""
    if len(rest) >= len(node.prefix) and not rest.text.startswith(node.prefix.text):
        raise _conflict(route, rest, node)
    if node.kind is Kind.CATCH_ALL:
        raise _conflict(route, rest, node)
    if node.kind is Kind.SUFFIXED and not parent.prefix.text.endswith("/"):
        terminator = rest.text.find("/") + 1 or len(rest)
        wildcard = find_wildcard_or_none(rest.part(0, terminator))
        if wildcard is not None and rest.text[wildcard[1] :] in ("", "/"):
            raise _conflict(route, rest, parent)


def _common(rest: Pattern, prefix: Pattern) -> int:
    """How many characters are the same in both; a literal brace is not the same as one of a placeholder."""
    length = min(len(rest), len(prefix))
    for i in range(length):
        if rest.text[i] != prefix.text[i] or rest.is_escaped(i) != prefix.is_escaped(i):
            return i
    return length


def _conflict(route: Pattern, rest: Pattern, node: Node) -> Conflict:
    """Names the first pattern that goes through a node."""
    if rest.text == node.prefix.text:
        return Conflict(with_names(route, node.names).text)
    route = route.part(0, len(route) - len(rest))
    if not route.text.endswith(node.prefix.text):
        route = route.joined(node.prefix)
    while node.children:
        node = node.children[0]
        route = route.joined(node.prefix)
    return Conflict(with_names(route, node.names).text)


def with_short_names(route: Pattern) -> tuple[Pattern, list[str]]:
    """The pattern with its placeholders called a, b, c, and their names: other names are no other pattern."""
    names: list[str] = []
    start = 0
    while (wildcard := find_wildcard(route.part(start))) is not None:
        begin, end = wildcard[0] + start, wildcard[1] + start
        if route.text[begin + 1] == "*":
            start = end
            continue
        names.append(route.text[begin + 1 : end - 1])
        if len(names) > PLACEHOLDERS_MAX:
            raise InsertError(TOO_MANY)
        route = route.replaced(begin, end, f"{{{chr(ord('a') + len(names) - 1)}}}")
        start = begin + 3
    return route, names


def with_names(route: Pattern, names: list[str]) -> Pattern:
    """The pattern with its placeholders called as their author called them."""
    start = 0
    for name in names:
        wildcard = find_wildcard_or_none(route.part(start))
        if wildcard is None:
            break
        begin, end = wildcard[0] + start, wildcard[1] + start
        route = route.replaced(begin, end, f"{{{name}}}")
        start = begin + len(name) + 2
    return route


def find_wildcard(pattern: Pattern) -> tuple[int, int] | None:
    """Where the first placeholder is. Raises InsertError for braces that are none."""
    text = pattern.text
    for start, character in enumerate(text):
        if character not in "{}" or pattern.is_escaped(start):
            continue
        if character == "}" or text[start + 1 : start + 2] == "}":
            raise InsertError(NO_PLACEHOLDER)
        for i in range(start + 2, len(text)):
            if text[i] == "}":
                if pattern.is_escaped(i):
                    continue
                if text[i - 1] == "*":
                    break
                return start, i + 1
            if text[i] in "*/":
                break
        raise InsertError(NO_PLACEHOLDER)
    return None


def find_wildcard_or_none(pattern: Pattern) -> tuple[int, int] | None:
    try:
        return find_wildcard(pattern)
    except InsertError:
        return None


def has_wildcard(pattern: Pattern) -> bool:
    return find_wildcard_or_none(pattern) is not None


def begins_with_wildcard(pattern: Pattern) -> bool:
    return pattern.text[0] == "{" and not pattern.is_escaped(0)


#: The words with which the host refuses a pattern, see `insert` in `router.rs`.
TWO_IN_SEGMENT = "a segment between two slashes can have one placeholder only"
NO_PLACEHOLDER = "a placeholder is {name}; a literal brace is written twice"
CATCH_ALL = "{*name} is only allowed at the end"
TOO_MANY = "it has more than 25 placeholders"
#: The crate calls them by letters and panics at the 26th.
PLACEHOLDERS_MAX = 25

LICENCES = """
matchit, MIT License, copyright (c) 2025 Ibraheem Ahmed:

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

httprouter, BSD 3-Clause License, copyright (c) 2013, Julien Schmidt, all rights reserved:

Redistribution and use in source and binary forms, with or without modification, are permitted provided that the following
conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
   disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
   disclaimer in the documentation and/or other materials provided with the distribution.
3. Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote products
   derived from this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING,
BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO
EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR
CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR
PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR
TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE
POSSIBILITY OF SUCH DAMAGE.
"""
