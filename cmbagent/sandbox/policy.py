"""What each level refuses, as seccomp programs. The reasons stand in docs/decisions/0010."""

from __future__ import annotations

from cmbagent.sandbox.landlock import SCOPES_SINCE, TRUNCATION_SINCE
from cmbagent.sandbox.seccomp import (
    ALLOW,
    DONE,
    NO_ACCESS,
    NO_SUCH_CALL,
    NOT_PERMITTED,
    NOT_SUPPORTED,
    Program,
    Step,
    argument,
    give,
    low_bits,
    unless_any_bit,
    unless_equal,
    when_any_bit,
    when_equal,
)

_NEW_NAMESPACES = 0x7E02_0000  # every CLONE_NEW* that clone knows
_SET_ID_BITS = 0o6000
_O_CREAT_OR_TMPFILE, _O_ACCMODE, _O_TRUNC = 0o100 | 0o20000000, 0o3, 0o1000
_UNIX, _INET, _INET6, _STREAM, _SEQPACKET = 1, 2, 10, 1, 5
_SOCKET_TYPE = 0xF
_TERMINAL: tuple[int, ...] = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into a terminal
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_SET_FLAGS, _SET_ATTRIBUTES = 0x4008_6602, 0x401C_5820  # of a file: FS_IOC_SETFLAGS, FSSETXATTR
_SETOWN, _SETOWN_EX = 8, 15
_SET_PIPE_SIZE = 1031
_SOL_SOCKET, _BUFFER_SIZES = 1, (7, 8, 32, 33)  # SO_SNDBUF, SO_RCVBUF and their FORCE forms
_PRIORITY_OF_PROCESS, _IO_PRIORITY_OF_PROCESS = 0, 1  # others are of a group or of a user
_SET_DUMPABLE = 4
_PERSONALITY_QUERY = 0xFFFF_FFFF

_OF_ADMINISTRATORS = (
    "mount umount2 mount_setattr move_mount open_tree open_tree_attr fsopen fsconfig fsmount "
    "fspick pivot_root chroot unshare setns bpf perf_event_open kexec_load kexec_file_load "
    "init_module finit_module delete_module swapon swapoff reboot syslog acct quotactl "
    "quotactl_fd settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname "
    "iopl ioperm modify_ldt vhangup fanotify_init nfsservctl lookup_dcookie uselib"
)
_INTO_OTHER_PROCESSES = (
    "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp process_madvise process_mrelease "
    "move_pages migrate_pages"
)
_AROUND_PATHS = "open_by_handle_at name_to_handle_at"
_KEYS = "keyctl add_key request_key"
# memory that no process's size shows, or that outlives the processes
_HIDDEN_MEMORY = "memfd_create memfd_secret shmget msgget semget mq_open userfaultfd"
# filters cannot look into what these are handed: libraries fall back when the call is absent
_OPAQUE = "clone3 openat2 io_uring_setup io_uring_enter io_uring_register"

_OWNERS = "chown lchown fchown fchownat"
_EXTENDED = (
    "setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat "
    "file_setattr"
)
_OF_OTHERS = "sched_setaffinity sched_setscheduler sched_setparam sched_setattr"
_SIGNALS = "tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal"


_MODES = (
    ("chmod", 1),
    ("fchmod", 1),
    ("fchmodat", 2),
    ("fchmodat2", 2),
    ("creat", 1),
    ("mknod", 1),
    ("mknodat", 2),
)


def contained(machine: str) -> bytes:
    """For level 1: its namespaces keep the network and other processes away."""
    program = Program(machine)
    families = [argument(0)]
    for family in (_UNIX, _INET, _INET6):  # AF_VSOCK and others know no network namespace
        families += when_equal(family, ALLOW)
    program.judge("socket", [*families, give(NO_ACCESS)])
    program.judge("fcntl", _none_of(1, (_SET_PIPE_SIZE,)))
    _refuse_dangerous(program, _TERMINAL)
    return program.assemble()


def confined(machine: str, *, abi: int, shared_uid: bool, read_only: bool, leader: int) -> bytes:
    """For level 2. `abi`: of Landlock. `shared_uid`: the server's own user runs the code.
    `read_only`: mounts keep the rest of the system from being changed. `leader`: the pid of the
    code's first process."""
    program = Program(machine)
    ioctls = _TERMINAL
    fcntls: tuple[int, ...] = (_SET_PIPE_SIZE,)
    if shared_uid:
        _leave_others_alone(program)
        if not read_only:
            _leave_metadata_alone(program)
            ioctls += (_SET_FLAGS, _SET_ATTRIBUTES)
        if abi < SCOPES_SINCE:
            _signal_the_first_process_only(program, leader)
            ioctls += (_FIOSETOWN, _SIOCSPGRP)
            fcntls += (_SETOWN, _SETOWN_EX)
    _no_sockets(program)
    program.answer("setsid setpgid", DONE)  # nobody leaves the group that is killed as one
    program.answer("inotify_init inotify_init1", NO_SUCH_CALL)  # Landlock hides no names from it
    program.judge("fcntl", _none_of(1, fcntls))
    _refuse_dangerous(program, ioctls, guard_truncation=abi < TRUNCATION_SINCE)
    return program.assemble()


def held_together(machine: str) -> bytes:
    """For level 3: confines nothing, but the tree stays one group."""
    program = Program(machine)
    program.answer("setsid setpgid", DONE)
    return program.assemble()


def _refuse_dangerous(
    program: Program, ioctls: tuple[int, ...], *, guard_truncation: bool = False
) -> None:
    program.answer(f"{_OF_ADMINISTRATORS} {_INTO_OTHER_PROCESSES} {_AROUND_PATHS}", NOT_PERMITTED)
    program.answer(f"{_KEYS} {_HIDDEN_MEMORY} {_OPAQUE}", NO_SUCH_CALL)
    program.judge("clone", [argument(0), *when_any_bit(_NEW_NAMESPACES, NOT_PERMITTED)])
    program.judge("personality", _only(0, (0, _PERSONALITY_QUERY)))
    # the launcher reads the size and the open files of what it watches
    program.judge("prctl", [argument(0), *when_equal(_SET_DUMPABLE, NOT_PERMITTED)])
    program.judge("ioctl", _none_of(1, ioctls))
    # larger buffers are memory of the kernel's that counts for nobody
    sizes = [argument(1), *unless_equal(_SOL_SOCKET, ALLOW), *_none_of(2, _BUFFER_SIZES)]
    program.judge("setsockopt", sizes)
    _no_set_id_files(program, guard_truncation=guard_truncation)


def _only(index: int, values: tuple[int, ...]) -> list[Step]:
    steps = [argument(index)]
    for value in values:
        steps += when_equal(value, ALLOW)
    return [*steps, give(NOT_PERMITTED)]


def _none_of(index: int, values: tuple[int, ...]) -> list[Step]:
    steps = [argument(index)]
    for value in values:
        steps += when_equal(value, NOT_PERMITTED)
    return steps


def _no_set_id_files(program: Program, *, guard_truncation: bool) -> None:
    """A set-uid file in a work directory would lend the server's user to other accounts."""
    for name, mode in _MODES:
        program.judge(name, [argument(mode), *when_any_bit(_SET_ID_BITS, NOT_PERMITTED)])
    for name, flags in (("open", 1), ("openat", 2)):
        truncation = _no_reading_truncation(flags) if guard_truncation else []
        program.judge(name, [*truncation, *_no_set_id_creation(flags)])
    if guard_truncation:
        program.answer("truncate", NO_ACCESS)


def _no_set_id_creation(flags: int) -> list[Step]:
    """Of an open: the mode counts only when a file is made."""
    check = [argument(flags + 1), *when_any_bit(_SET_ID_BITS, NOT_PERMITTED)]
    return [argument(flags), *unless_any_bit(_O_CREAT_OR_TMPFILE, skip=len(check)), *check]


def _no_reading_truncation(flags: int) -> list[Step]:
    """Before its third version Landlock lets a file be emptied that may only be read."""
    only_both = low_bits(_O_ACCMODE | _O_TRUNC)
    return [argument(flags), only_both, *when_equal(_O_TRUNC, NO_ACCESS)]


def _no_sockets(program: Program) -> None:
    program.answer("socket connect bind listen accept accept4", NO_ACCESS)
    # a pair of datagram sockets could be sent from to any name in the file system
    kinds = [argument(1), low_bits(_SOCKET_TYPE)]
    for kind in (_STREAM, _SEQPACKET):
        kinds += when_equal(kind, ALLOW)
    program.judge("socketpair", [*kinds, give(NO_ACCESS)])


def _leave_others_alone(program: Program) -> None:
    """What a user may do to all his processes, code may do to itself only."""
    for name in ("prlimit64", *_OF_OTHERS.split()):
        program.judge(name, _only(0, (0,)))
    for name, kind in (
        ("setpriority", _PRIORITY_OF_PROCESS),
        ("ioprio_set", _IO_PRIORITY_OF_PROCESS),
    ):
        program.judge(name, [argument(0), *unless_equal(kind, NOT_PERMITTED), *_only(1, (0,))])


def _leave_metadata_alone(program: Program) -> None:
    """Landlock does not judge these. chmod is answered as done: whatever copies a file calls it."""
    program.answer("chmod fchmod fchmodat fchmodat2", DONE)
    program.answer(_OWNERS, NOT_PERMITTED)
    program.answer(_EXTENDED, NOT_SUPPORTED)


def _signal_the_first_process_only(program: Program, leader: int) -> None:
    """Before its sixth version Landlock does not keep signals inside."""
    for name in ("kill", "tgkill"):
        program.judge(name, _only(0, (leader,)))
    program.answer(_SIGNALS, NOT_PERMITTED)
