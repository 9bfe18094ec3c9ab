"""The little that has to be changed in a compiled WebAssembly module."""

from collections.abc import Mapping

__all__ = ["rename_imports"]

#: Module and field.
Import = tuple[str, str]


def rename_imports(module: bytes, names: Mapping[Import, Import]) -> bytes:
    """A module that imports the same things under other names. Raises ValueError for what is not a module."""
    if module[:8] != b"\0asm\1\0\0\0":
        raise ValueError("not a WebAssembly module")
    result = bytearray(module[:8])
    position = 8
    while position < len(module):
        kind = module[position]
        size, start = _number(module, position + 1)
        content = module[start : start + size]
        if kind == _IMPORT_SECTION:
            content = _renamed(content, names)
            result += bytes([kind]) + _encoded(len(content)) + content
        else:
            result += module[position : start + size]
        position = start + size
    return bytes(result)


def _renamed(section: bytes, names: Mapping[Import, Import]) -> bytes:
    count, position = _number(section, 0)
    result = bytearray(_encoded(count))
    for _ in range(count):
        module, position = _name(section, position)
        field, position = _name(section, position)
        end = _end_of_description(section, position)
        for name in names.get((module, field), (module, field)):
            encoded = name.encode()
            result += _encoded(len(encoded)) + encoded
        result += section[position:end]
        position = end
    return bytes(result)


def _end_of_description(section: bytes, position: int) -> int:
    kind = section[position]
    position += 1
    if kind == 0:  # a function, by the number of its type
        return _number(section, position)[1]
    if kind == 3:  # a global: type and mutability
        return position + 2
    if kind == 4:  # a tag
        return _number(section, position + 1)[1]
    if kind == 1:  # a table: type, then limits
        position += 1
    elif kind != 2:  # a memory: limits
        raise ValueError(f"there is no kind of import {kind}")
    flags = section[position]
    position = _number(section, position + 1)[1]
    return _number(section, position)[1] if flags & 1 else position


def _name(content: bytes, position: int) -> tuple[str, int]:
    length, position = _number(content, position)
    return content[position : position + length].decode(), position + length


def _number(content: bytes, position: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where it ends."""
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _encoded(value: int) -> bytes:
    result = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        if not value:
            result.append(byte)
            return bytes(result)
        result.append(byte | 0x80)


_IMPORT_SECTION = 2
