"""A pickle reader that cannot run anything.

A pickle is a program for a small stack machine; two of its instructions, "fetch this global" and "call it", are what
makes it dangerous. This is a stack machine of our own. It imports nothing and calls nothing that the file names: a
global stays a pair of strings, looked up in the closed table ``MAKERS``, whose functions build plain containers,
windows on the file's bytes, or stubs that hold state. Any other global ends the reading with its name.
"""

import pickletools
import warnings
from collections.abc import Callable
from typing import IO, Any, cast

from pipeline.checkpoints.foreign_tensor import ForeignStorage, let_go
from pipeline.checkpoints.pickle_globals import (
    LOAD_FROM_BYTES,
    MAKERS,
    ForeignArray,
    ForeignDtype,
    RefusedError,
    Stub,
    Symbol,
    foreign_array,
    plain_key,
    storage_dtype,
)
from pipeline.errors import CheckpointError

MAX_OPCODES = 5_000_000  # a checkpoint of 1,000 tensors needs some 50,000
LARGE = 1 << 14  # bytes from which a byte string is left in the file
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first object of torch.save before its zip format
Loader = Callable[[Any], Any]

# what a damaged stream can make of well-meant code below; everything else is a bug of ours
DAMAGE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RecursionError,
    DeprecationWarning,  # pickletools: a stray backslash in a text
)


def unpickle(data: memoryview, *, source: str, storages: Loader | None = None) -> tuple[Any, int]:
    """Read one pickle.

    Args:
        data: the bytes, of any protocol from 0 to 5; large byte strings stay windows on them.
        source: name of the file, for messages.
        storages: makes a storage of a torch file's persistent id; None where there may be none.
    Returns:
        the object and where in ``data`` it ends. Containers are lists, tuples, dicts and sets; tensors and arrays
        ``ForeignTensor``; objects of allowed classes ``Stub``; byte strings bytes or memoryview.
    Raises:
        CheckpointError: if the stream names a global that is not allowed, or is damaged.
    """
    machine = _Machine(data, source, storages)
    try:
        with warnings.catch_warnings(action="error", category=DeprecationWarning):
            return machine.run(), machine.cursor.position
    except RefusedError as error:
        raise CheckpointError(
            f"{source}: refused, nothing was run: {error}. A checkpoint needs tensors, numbers and text only; "
            f"get the file from its publisher, or save its state_dict."
        ) from None
    except DAMAGE as error:
        detail = " ".join(str(error).split())[:120] or type(error).__name__
        raise CheckpointError(
            f"{source}: must be a whole pickle; reading stopped at byte {machine.cursor.position:,} of "
            f"{data.nbytes:,} ({detail}). It is cut short, damaged or something else: fetch it again."
        ) from None


class _Cursor:
    """The file interface that ``pickletools`` reads through; never gives more than there is."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.position = data, 0

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes."""
        if count < 0:
            raise ValueError("negative length")
        start = self.position
        self.position = min(start + count, self.data.nbytes)
        return bytes(self.data[start : self.position])

    def readline(self) -> bytes:
        """Up to and with the next line feed."""
        line = b""
        while not line.endswith(b"\n"):
            piece = self.read(256)
            if not piece:
                return line
            end = piece.find(b"\n") + 1
            if end:
                self.position -= len(piece) - end
                piece = piece[:end]
            line += piece
        return line

    def tell(self) -> int:
        """Bytes read so far."""
        return self.position


class _Machine:
    """The stack machine: a stack, older stacks below marks, a memo."""

    def __init__(self, data: memoryview, source: str, storages: Loader | None) -> None:
        self.cursor = _Cursor(data)
        self.source = source
        self.storages = storages
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Execute until STOP."""
        program = pickletools.genops(cast(IO[bytes], self.cursor))
        for count, (opcode, argument, _) in enumerate(program):
            if count > MAX_OPCODES:
                raise RefusedError(f"it has more than {MAX_OPCODES:,} instructions")
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _PUSH_NUMBER or name in _PUSH_TEXT:
                self.stack.append(argument)
            elif name in _PUSH_BYTES and argument is not None:
                self.stack.append(self._bytes(argument))
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _HANDLERS:
                _HANDLERS[name](self, argument)
            else:
                raise RefusedError(f"it uses the instruction {name}")
        raise EOFError("no STOP")

    def _bytes(self, value: bytes | bytearray) -> bytes | bytearray | memoryview:
        if len(value) < LARGE:
            return value
        let_go(self.cursor.data)
        return self.cursor.data[self.cursor.position - len(value) : self.cursor.position]

    def _mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._pop_mark()

    def _discard(self, _: Any) -> None:
        self._pop_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def _tuple_of_mark(self, _: Any) -> None:
        items = tuple(self._pop_mark())
        self.stack.append(items)

    def _list_of_mark(self, _: Any) -> None:
        items = self._pop_mark()
        self.stack.append(items)

    def _dict_of_mark(self, _: Any) -> None:
        items = self._pop_mark()
        self.stack.append({})
        self._set_items(items)

    def _frozenset_of_mark(self, _: Any) -> None:
        items = self._pop_mark()
        self.stack.append(frozenset(plain_key(item) for item in items))

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _append_mark(self, _: Any) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError("items for something that is no list")
        target.extend(items)

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _set_mark(self, _: Any) -> None:
        self._set_items(self._pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError("entries for something that is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[plain_key(key)] = value

    def _add_items(self, _: Any) -> None:
        items = self._pop_mark()
        target = self.stack[-1]
        if not isinstance(target, set):
            raise TypeError("members for something that is no set")
        target.update(plain_key(item) for item in items)

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def _global(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        self.stack.append(_symbol(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a global whose name is no text")
        self.stack.append(_symbol(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self._make(function, arguments))

    def _new_object(self, _: Any) -> None:
        self._reduce(None)

    def _new_object_ex(self, _: Any) -> None:
        keywords = self.stack.pop()
        if keywords:
            raise RefusedError("it makes an object with keyword arguments")
        self._reduce(None)

    def _instance(self, argument: str) -> None:
        items = tuple(self._pop_mark())
        self._global(argument)
        self.stack.append(self._make(self.stack.pop(), items))

    def _object(self, _: Any) -> None:
        function, *items = self._pop_mark()
        self.stack.append(self._make(function, tuple(items)))

    def _make(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Symbol) or not isinstance(arguments, tuple):
            raise RefusedError("it calls something that is no global")
        maker = MAKERS[function.module, function.name]
        if maker is None:
            raise RefusedError(f"it calls {function}, which is only a name here")
        if (function.module, function.name) == LOAD_FROM_BYTES:
            return _storage_from_bytes(arguments[0], self.source)
        return maker(*arguments)

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Stub):
            slots = state[1] if isinstance(state, tuple) and len(state) == 2 else None
            state = state[0] if isinstance(state, tuple) else state
            target.state.update({str(k): v for part in (state, slots) if part for k, v in part.items()})
        elif isinstance(target, ForeignDtype):
            target.order = state[1]
        elif isinstance(target, ForeignArray):
            _, shape, dtype, fortran, data = state
            target.tensor = foreign_array(data, dtype, shape, fortran=bool(fortran))
        elif not isinstance(target, dict):  # a state_dict's own attributes (_metadata) are of no use
            raise TypeError("state for something that holds none")

    def _persistent(self, argument: Any) -> None:
        if self.storages is None:
            raise RefusedError("it refers to something outside itself")
        self.stack.append(self.storages(self.stack.pop() if argument is None else argument))


def _symbol(module: str, name: str) -> Symbol:
    if (module, name) not in MAKERS:
        shown = f"{module}.{name}"
        raise RefusedError(f"it asks for {shown[:100]!r}")
    return Symbol(module, name)


def _storage_from_bytes(data: Any, source: str) -> ForeignStorage:
    """A storage that was pickled with plain pickle: a legacy torch file within the file."""
    found = read_legacy(memoryview(data), source=source)
    if not isinstance(found, ForeignStorage):
        raise TypeError("bytes of a storage that hold something else")
    return found


def read_legacy(data: memoryview, *, source: str) -> Any:
    """The object of a torch file from before the zip format: four pickles, a list of keys, then the storages.

    Args:
        data: the file.
        source: its name, for messages.
    Returns:
        the object; tensors are ``ForeignTensor``.
    Raises:
        CheckpointError: if the file is refused or damaged.
    """
    storages: dict[str, ForeignStorage] = {}

    def storage(pid: Any) -> ForeignStorage:
        kind, key, *rest = pid[1:]
        key = _text(key)
        if len(rest) > 2 and rest[2] is not None:
            raise RefusedError("its storages overlap as torch no longer writes them; load and save it with torch")
        return storages.setdefault(key, ForeignStorage(storage_dtype(kind), None))

    position, objects = 0, []
    for _ in range(5):
        value, size = unpickle(data[position:], source=source, storages=storage)
        objects.append(value)
        position += size
    if objects[0] != LEGACY_MAGIC or not isinstance(objects[4], list):
        raise ValueError("no torch file")
    for key in objects[4]:
        found = storages.setdefault(_text(key), ForeignStorage("uint8", None))
        count = int.from_bytes(data[position : position + 8], "little")
        stop = position + 8 + count * found.itemsize
        if stop > data.nbytes:
            raise EOFError("the storages end early")
        found.data = data[position + 8 : stop]
        position = stop
    return objects[3]


def _text(key: Any) -> str:
    if not isinstance(key, str | int):
        raise TypeError("a storage whose key is no text")
    return str(key)


_PUSH_NUMBER = frozenset(["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"])
_PUSH_TEXT = frozenset(
    ["STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"]
)
_PUSH_BYTES = frozenset(["BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"])
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._discard,
    "DUP": _Machine._dup,
    "TUPLE": _Machine._tuple_of_mark,
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "LIST": _Machine._list_of_mark,
    "DICT": _Machine._dict_of_mark,
    "FROZENSET": _Machine._frozenset_of_mark,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._append_mark,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_mark,
    "ADDITEMS": _Machine._add_items,
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._new_object,
    "NEWOBJ_EX": _Machine._new_object_ex,
    "INST": _Machine._instance,
    "OBJ": _Machine._object,
    "BUILD": _Machine._build,
    "PERSID": _Machine._persistent,
    "BINPERSID": _Machine._persistent,
}
