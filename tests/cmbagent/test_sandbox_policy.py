"""The seccomp programs, run by an interpreter of our own: for both architectures and for kernels
that this machine has not."""

from __future__ import annotations

import errno
import struct

import pytest

from cmbagent.sandbox import landlock, policy, seccomp
from cmbagent.sandbox.syscalls import ARCHITECTURES, LATEST, NUMBERS, number

ALLOWED, DONE = seccomp.ALLOW, seccomp.DONE
AUDIT = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
REFUSED = (
    "ptrace process_vm_readv process_vm_writev pidfd_getfd mount move_mount open_tree bpf keyctl "
    "io_uring_setup userfaultfd perf_event_open open_by_handle_at kexec_load unshare setns clone3 "
    "memfd_create shmget mq_open openat2"
)
both = pytest.mark.parametrize("machine", ARCHITECTURES)


def answer(program: bytes, machine: str, call: int, *arguments: int, audit: int = 0) -> int:
    """What the kernel would do: the few instructions that these programs are made of."""
    words = [argument & (2**64 - 1) for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("=IIQ6Q", call, audit or AUDIT[machine], 0, *words)
    steps = list(struct.iter_unpack("=HBBI", program))
    at, value = 0, 0
    while True:
        code, yes, no, constant = steps[at]
        at += 1
        if code == 0x06:
            return int(constant)
        if code == 0x20:
            value = struct.unpack_from("=I", data, constant)[0]
        elif code == 0x54:
            value &= constant
        else:
            holds = {
                0x15: value == constant,
                0x25: value > constant,
                0x35: value >= constant,
                0x45: bool(value & constant),
            }[code]
            at += yes if holds else no


def level_2(machine: str, *, abi: int = 7, shared: bool = True, read_only: bool = True) -> bytes:
    return policy.confined(machine, abi=abi, shared_uid=shared, read_only=read_only, leader=77)


def refused(program: bytes, machine: str, name: str, *arguments: int) -> bool:
    call = number(name, machine)
    return call is None or answer(program, machine, call, *arguments) not in (ALLOWED, DONE)


def allowed(program: bytes, machine: str, name: str, *arguments: int) -> bool:
    call = number(name, machine)
    return call is None or answer(program, machine, call, *arguments) == ALLOWED


@both
def test_other_architectures_and_unknown_calls_are_refused(machine: str) -> None:
    for program in (level_2(machine), policy.contained(machine)):
        assert answer(program, machine, 0, audit=0x4000_0003) == seccomp.KILL
        assert answer(program, machine, LATEST + 1) == seccomp.NO_SUCH_CALL
    if machine == "x86_64":
        assert answer(level_2(machine), machine, 0x4000_0000 + 39) == seccomp.NO_SUCH_CALL


@both
def test_no_rule_is_hidden_behind_another(machine: str) -> None:
    """The first rule for a call decides; a second one would never be asked."""
    for abi in (1, 7):
        program = level_2(machine, abi=abi, read_only=False)
        calls = [step[3] for step in struct.iter_unpack("=HBBI", program) if step[0] == 0x15]
        numbers = {
            number(name, machine)
            for name in ("ptrace", "bpf", "openat", "ioctl", "fcntl", "setsockopt")
        }
        for call in numbers - {None}:
            assert calls.count(call) <= 1


@both
@pytest.mark.parametrize(
    "name",
    REFUSED.split(),
)
def test_both_levels_refuse(machine: str, name: str) -> None:
    assert refused(level_2(machine), machine, name)
    assert refused(policy.contained(machine), machine, name)


@both
def test_sockets(machine: str) -> None:
    confined, contained = level_2(machine), policy.contained(machine)
    for family in range(46):
        assert refused(confined, machine, "socket", family, 1)
        assert allowed(contained, machine, "socket", family, 1) == (family in {1, 2, 10})
    for kind, fits in ((1, True), (5, True), (2, False), (3, False), (1 | 0o2000000, True)):
        assert allowed(confined, machine, "socketpair", 1, kind) == fits
    for name in ("connect", "bind", "listen", "accept", "accept4"):
        assert refused(confined, machine, name, 3)


@both
def test_nobody_leaves_the_group(machine: str) -> None:
    for name in ("setsid", "setpgid"):
        call = number(name, machine)
        assert call is not None
        assert answer(level_2(machine), machine, call) == DONE
        assert answer(policy.held_together(machine), machine, call) == DONE


@both
def test_set_id_files_are_refused_and_others_are_not(machine: str) -> None:
    program = level_2(machine)
    create, read = 0o100 | 0o1, 0
    for name, before in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mknodat", 2)):
        assert refused(program, machine, name, *[0] * before, 0o4755)
        assert allowed(program, machine, name, *[0] * before, 0o755)
    assert refused(program, machine, "openat", 0, 0, create, 0o2755)
    assert allowed(program, machine, "openat", 0, 0, create, 0o644)
    # without O_CREAT the fourth argument is whatever the register held
    assert allowed(program, machine, "openat", 0, 0, read, 0o6777)


@both
def test_threads_and_forks_are_allowed_and_namespaces_not(machine: str) -> None:
    program = level_2(machine)
    assert allowed(program, machine, "clone", 0x003D_0F00)
    assert allowed(program, machine, "clone", 17)
    for flag in (0x2_0000, 0x200_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000):
        assert refused(program, machine, "clone", flag | 17)


@both
def test_a_kernel_before_landlock_could_forbid_truncation(machine: str) -> None:
    old, new = level_2(machine, abi=2), level_2(machine, abi=3)
    truncate_while_reading, truncate_while_writing = 0o1000, 0o1001
    assert refused(old, machine, "openat", 0, 0, truncate_while_reading)
    assert allowed(old, machine, "openat", 0, 0, truncate_while_writing)
    assert refused(old, machine, "truncate")
    assert allowed(new, machine, "openat", 0, 0, truncate_while_reading)


@both
def test_a_kernel_before_landlock_could_keep_signals_inside(machine: str) -> None:
    old = level_2(machine, abi=5)
    assert refused(old, machine, "kill", 78, 9)
    assert refused(old, machine, "kill", -77, 9)
    assert allowed(old, machine, "kill", 77, 9)
    assert allowed(old, machine, "tgkill", 77, 77, 6)
    assert refused(old, machine, "pidfd_send_signal", 3)
    assert refused(old, machine, "fcntl", 3, 8, 78)
    assert allowed(old, machine, "fcntl", 3, 3)
    assert allowed(level_2(machine, abi=5, shared=False), machine, "kill", 78, 9)
    assert allowed(level_2(machine, abi=6), machine, "kill", 78, 9)


@both
def test_the_users_other_processes_are_left_alone(machine: str) -> None:
    for name in ("prlimit64", "sched_setaffinity"):
        assert refused(level_2(machine), machine, name, 1234)
        assert allowed(level_2(machine), machine, name, 0)
    for name, process in (("setpriority", 0), ("ioprio_set", 1)):
        for kind in range(4):  # 0 means oneself, one's group, one's user
            assert allowed(level_2(machine), machine, name, kind, 0) == (kind == process)
            assert refused(level_2(machine), machine, name, kind, 1234)


@both
def test_buffers_of_the_kernels_stay_small(machine: str) -> None:
    for program in (level_2(machine), level_2(machine, abi=5), policy.contained(machine)):
        assert refused(program, machine, "fcntl", 3, 1031, 1 << 20)
        assert allowed(program, machine, "fcntl", 3, 1, 0)
        for option in (7, 8, 32, 33):
            assert refused(program, machine, "setsockopt", 3, 1, option)
            assert allowed(program, machine, "setsockopt", 3, 6, option)  # of TCP: another thing
        assert allowed(program, machine, "setsockopt", 3, 1, 2)


@both
def test_without_mounts_metadata_is_not_changed(machine: str) -> None:
    program = level_2(machine, read_only=False)
    call = number("fchmodat", machine)
    assert call is not None
    assert answer(program, machine, call, 0, 0, 0o644) == DONE
    assert refused(program, machine, "fchownat")
    no_attributes = number("setxattr", machine)
    assert no_attributes is not None
    assert answer(program, machine, no_attributes) == seccomp.refuse(errno.EOPNOTSUPP)


def test_landlock_asks_an_old_kernel_for_nothing_it_does_not_know() -> None:
    bits = [landlock.handled(version).bit_length() for version in (1, 2, 3, 4, 5, 6, 7)]
    assert bits == [13, 14, 15, 15, 16, 16, 16]


def test_every_call_has_a_number() -> None:
    for name, numbers in NUMBERS.items():
        assert any(found is not None and found <= LATEST for found in numbers), name
