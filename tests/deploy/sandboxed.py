"""Run a command under a service's system call filter and without writable, executable memory.

It does what systemd would do for ``SystemCallFilter=``, ``SystemCallErrorNumber=EPERM`` and
``MemoryDenyWriteExecute=yes``, by the same library: ``sandboxed.py COMMAND`` with the names of
the system calls that are allowed on standard input.
"""

import ctypes
import os
import sys

_EPERM = 0x00050001  # SCMP_ACT_ERRNO(EPERM)
_ALLOW = 0x7FFF0000  # SCMP_ACT_ALLOW
_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1  # of prctl; Linux 6.3

seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
libc = ctypes.CDLL(None)
libc.prctl(_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0)
context = ctypes.c_void_p(seccomp.seccomp_init(_EPERM))
for name in sys.stdin.read().split():
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:  # else it is none of this architecture
        seccomp.seccomp_rule_add(context, _ALLOW, number, 0)
if seccomp.seccomp_load(context):
    sys.exit("the system call filter is refused")
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - nothing of a shell is wanted
