"""Prepares memory for requests that are each followed by a reset: what a request writes to has to be put back after it.

Two things make a request write to many more pages than it has data for. An object that is only looked at has its reference
count changed; so what an application has when it starts is made immortal, which CPython's counting leaves alone (PEP 683).
And new objects go into the gaps that the start has left all over the heap; so the gaps are filled, and requests use the free
memory at its end, the same few pages each time.

Objects that somebody may want to see end are left alone: those with `__del__`, those that are weakly referenced, and what
is under way. They end when nothing holds them any more; what is held by an immortal object stays.
"""

import gc
import opcode
import os
import struct
import sys
import types
import weakref
from asyncio import Future
from collections.abc import Iterable
from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager
from typing import Any

__all__ = ["settle"]

#: Bytes that a request may use beyond what the start has left before memory has to grow. Memory cannot be made smaller
#: again, so an instance whose memory grows in a request is thrown away instead of being put back.
HEADROOM = 4 << 20


def settle() -> None:
    """Makes what there is immortal, fills the gaps, and leaves free memory at the end. Does nothing outside of a component.

    Cheap when it is done again: what is immortal or frozen already is not visited.
    """
    gc.collect()
    if sys.platform == "wasi":
        if (memory := _linear_memory()) is not None:
            _immortalize(memory)
        gc.collect()
        _fill_gaps()
    # And what stays need not be traversed by the collections of requests.
    gc.freeze()


def _immortalize(memory: "memoryview[int]") -> None:
    seen: set[int] = set()
    found: list[Iterable[Any]] = [gc.get_objects()]
    own = {id(seen), id(found), id(found[0]), id(memory)}
    while found:
        for value in found.pop():
            if sys._is_immortal(value) or id(value) in seen or id(value) in own:  # type: ignore[attr-defined, unused-ignore]
                continue
            seen.add(id(value))
            kind = type(value)
            if issubclass(kind, _UNDER_WAY):
                continue
            if kind is types.CodeType:
                found.append([getattr(value, name) for name in _PARTS_OF_CODE])
            else:
                found.append(gc.get_referents(value))
            if issubclass(kind, _ALWAYS) or not (_has_finalizer(kind) or weakref.getweakrefcount(value)):
                memory[(id(value) - _BEGIN) // 4] = _IMMORTAL


def _has_finalizer(kind: type) -> bool:
    """Without asking the class, whose metaclass could answer anything."""
    return any("__del__" in base.__dict__ for base in type.__dict__["__mro__"].__get__(kind))


def _fill_gaps() -> None:
    """Takes all free memory but that at the end, from the largest pieces to the smallest."""
    global _are_gaps_known
    try:
        # Takes a buffer of that size, fails, and gives it back: memory has grown, and its pages are still untouched.
        os.read(-1, HEADROOM * 3 // 4 if _are_gaps_known else HEADROOM)
    except OSError:
        pass
    except MemoryError:
        return
    # Larger than any gap, so it is at the end. The first time anything may have been freed; later a smaller one will do,
    # which matters, since its pages are cleared while a host starts.
    end = id(bytes(_LARGE_PIECES[0] if _are_gaps_known else HEADROOM))
    _are_gaps_known = True
    for size in (*_LARGE_PIECES, *_SMALL_PIECES):
        while id(piece := bytes(size - _OVERHEAD)) < end:
            _pieces.append(piece)
    while id(smallest := object()) < end:
        _pieces.append(smallest)


def _linear_memory() -> "memoryview[int] | None":
    """The component's own memory, as words from the address _BEGIN on. None if this interpreter is not as expected.

    Nothing in Python makes an object immortal, and a component has nobody else to ask. So this makes an array by hand that
    begins where memory does, and lets the interpreter load it as a constant that lies beyond the constants of a function.
    """
    array = struct.pack("<IIiiIIi", 1 << 20, id(bytearray), _SIZE, _SIZE, _BEGIN, _BEGIN, 0)
    pointer = struct.pack("<I", id(array) + _BYTES_CONTENT)
    _pieces.extend([array, pointer])
    code = _constant.__code__
    constants = id(code.co_consts) + tuple.__basicsize__
    if code.co_code[2:] != bytes((_LOAD_CONST, 0, _RETURN_VALUE, 0)) or bytearray.__basicsize__ != len(array):
        return None
    index = ((id(pointer) + _BYTES_CONTENT - constants) % 2**32) // 4
    *high, low = index.to_bytes(4, "big")
    load = b"".join(bytes((_EXTENDED_ARG, part)) for part in high) + bytes((_LOAD_CONST, low))
    function = types.FunctionType(code.replace(co_code=code.co_code[:2] + load + bytes((_RETURN_VALUE, 0))), {})
    _pieces.append(function)
    memory = memoryview(function()).cast("I")
    # A new object has one reference, and its type beside it.
    probe = object()
    word = (id(probe) - _BEGIN) // 4
    return memory if memory[word] == 1 and memory[word + 1] == id(object) else None


def _constant() -> Any:
    return "a constant"


#: What is to stay where it is for ever.
_pieces: list[Any] = []
#: Whether they have been filled once.
_are_gaps_known = False

#: Somebody waits for the end of these, or they are what runs just now.
_UNDER_WAY = (
    *(types.FrameType, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, types.TracebackType),
    *(Future, _GeneratorContextManager, _AsyncGeneratorContextManager, memoryview),
)
#: Weakly referenced by the interpreter itself, and hardly ever by others.
_ALWAYS = (type, types.FunctionType, types.ModuleType, types.BuiltinFunctionType)

_PARTS_OF_CODE = (
    *("co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars"),
    *("co_filename", "co_name", "co_qualname", "co_linetable", "co_exceptiontable"),
)

# The interpreter that componentize-py 0.25 brings: CPython 3.14 with 32-bit addresses.
_IMMORTAL = 5 << 28
_BYTES_CONTENT = bytes.__basicsize__ - 1
_EXTENDED_ARG, _LOAD_CONST, _RETURN_VALUE = (opcode.opmap[name] for name in ("EXTENDED_ARG", "LOAD_CONST", "RETURN_VALUE"))
#: Addresses below it are nobody's.
_BEGIN = 16
_SIZE = (1 << 30) - _BEGIN

#: Of bytes, and of the allocator's piece that they are in.
_OVERHEAD = bytes.__basicsize__ + 4
_LARGE_PIECES = [1 << exponent for exponent in range(19, 10, -1)]
_SMALL_PIECES = range(1024, 16, -16)
