"""The system calls that executed code is refused, as a program that the kernel runs for each call.

Only the low half of an argument is looked at: every argument judged here is an int for the kernel.
"""

from __future__ import annotations

import errno
import struct

from cmbagent.sandbox.syscalls import ARCHITECTURES, LATEST, number

ALLOW, KILL = 0x7FFF_0000, 0x8000_0000
DONE = 0x0005_0000  # answered with 0, without doing it
_LOAD, _EQUAL, _GREATER, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x54, 6
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_AUDIT = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_X32 = 0x4000_0000

Step = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def refuse(error: int) -> int:
    """Answer a call with this errno."""
    return DONE | error


NOT_PERMITTED, NO_SUCH_CALL = refuse(errno.EPERM), refuse(errno.ENOSYS)
NO_ACCESS, NOT_SUPPORTED = refuse(errno.EACCES), refuse(errno.EOPNOTSUPP)


def give(answer: int) -> Step:
    return (_RETURN, 0, 0, answer)


def argument(index: int) -> Step:
    """Load the low half of an argument."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def when_equal(value: int, answer: int) -> list[Step]:
    return [(_EQUAL, 0, 1, value), give(answer)]


def unless_equal(value: int, answer: int) -> list[Step]:
    return [(_EQUAL, 1, 0, value), give(answer)]


def when_any_bit(bits: int, answer: int) -> list[Step]:
    return [(_ANY_BIT, 0, 1, bits), give(answer)]


def unless_any_bit(bits: int, *, skip: int) -> list[Step]:
    """Go on with the next steps if a bit is set, otherwise leave out that many."""
    return [(_ANY_BIT, 0, skip, bits)]


def low_bits(mask: int) -> Step:
    return (_AND, 0, 0, mask)


class Program:
    """One list of steps; each rule for a call ends it, and what no rule names is allowed."""

    def __init__(self, machine: str) -> None:
        self._machine = machine
        self._steps: list[Step] = [
            (_LOAD, 0, 0, _ARCHITECTURE),
            (_EQUAL, 1, 0, _AUDIT[machine]),
            give(KILL),  # another architecture's numbers would mean other calls
            (_LOAD, 0, 0, _NUMBER),
        ]
        if machine == "x86_64":
            self._steps += [(_AT_LEAST, 0, 1, _X32), give(NO_SUCH_CALL)]
        self._steps += [(_GREATER, 0, 1, LATEST), give(NO_SUCH_CALL)]

    def answer(self, names: str, answer: int) -> None:
        """Give the same answer to every call of these names, whatever its arguments."""
        for name in names.split():
            self.judge(name, [give(answer)])

    def judge(self, name: str, steps: list[Step]) -> None:
        """Decide a call by its arguments; what the steps do not end is allowed."""
        if (call := number(name, self._machine)) is not None:
            body = [*steps, give(ALLOW)]
            self._steps += [(_EQUAL, 0, len(body), call), *body]

    def assemble(self) -> bytes:
        steps = [*self._steps, give(ALLOW)]
        return b"".join(struct.pack("=HBBI", *step) for step in steps)


def available(machine: str) -> bool:
    return machine in ARCHITECTURES
