"""Which files a command trusts: those that only its own user, root and, optionally, one group can have written.

A run folder determines which commands later rounds pass to a shell, where programs and libraries are, and where results go.
A user who can write to it can act as the user who resumes it.
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import re
import shlex
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from audio_tokenizers.errors import UsageError

__all__ = [
    "NotTrustedError",
    "Owned",
    "Trust",
    "check_files",
    "check_folder",
    "fault_of",
    "owned",
    "private_umask",
    "share",
    "trust_of",
]

ROOT, NOBODY = 0, 65534
GROUP_WRITES, OTHERS_WRITE, OWNER_BITS = 0o020, 0o002, 0o700
ACL = "system.posix_acl_access"
ACL_USER, ACL_GROUP_OBJ, ACL_GROUP = 0x02, 0x04, 0x08
ACL_WRITE = 0o2
FILES_SHOWN = 3


class NotTrustedError(UsageError):
    """Others may have written a file of a run."""

    def __init__(self, found: str, advice: str, *, may_share: bool = False) -> None:
        """`found` says which file, and why; `may_share`: it is acceptable if the user trusts its group."""
        super().__init__(f"not trusted: {found}: {advice}")
        self.found = found
        self.advice = advice
        self.may_share = may_share


@dataclass(frozen=True)
class Owned:
    """Ownership and permissions of one file or folder."""

    path: Path
    uid: int
    gid: int
    mode: int
    users: tuple[int, ...] = ()
    """Users that an ACL lets write."""
    groups: tuple[int, ...] = ()
    """Groups that the ACL lets write, including the file's own group if it may."""
    acl: bool = False
    """Whether there is an ACL; otherwise the mode says whether the file's group may write."""


@dataclass(frozen=True)
class Trust:
    """Which users a command trusts."""

    uid: int
    umask: int
    """The umask of the command and its tasks."""
    own_group: int | None = None
    """A group with no other members, as many systems give each user."""
    group: int | None = None
    """The group that the user named, whose members are trusted."""
    group_name: str = ""
    member: Callable[[int], bool] = lambda _uid: False
    """Whether a user is in that group."""
    code_owner: int | None = None
    """The owner of the running code, if trusted: they control the process anyway."""

    def is_user(self, uid: int) -> bool:
        """Whether a user is trusted."""
        return uid in (self.uid, ROOT, self.code_owner) or (self.group is not None and self.member(uid))

    def is_group(self, gid: int) -> bool:
        """Whether all members of a group are trusted."""
        return gid in (self.own_group, self.group)


def fault_of(found: Owned, trust: Trust) -> str | None:
    """Pure: a message about who else may have written a file; None if no one."""
    if not trust.is_user(found.uid):
        return "owned by another user"
    if found.mode & OTHERS_WRITE:
        return "writable by everybody"
    if found.mode & GROUP_WRITES:  # with an ACL these bits are its mask, which limits all its entries
        writers = found.groups if found.acl else (found.gid,)
        for gid in writers:
            if not trust.is_group(gid):
                return f"writable by group {_group(gid)}"
        for uid in found.users:
            if not trust.is_user(uid):
                return f"writable by {_user(uid)}, by an ACL"
    return None


def owned(path: Path, status: os.stat_result) -> Owned:
    """A file's ownership for the checks, with its POSIX ACL if others than the owner may write."""
    found = Owned(path, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    if not found.mode & GROUP_WRITES or not hasattr(os, "getxattr"):
        return found
    try:
        data = os.getxattr(path, ACL)
    except OSError:  # no ACL, or no support for ACLs
        return found
    writers = [(tag, who) for tag, perm, who in struct.iter_unpack("<HHI", data[4:]) if perm & ACL_WRITE]
    users = tuple(who for tag, who in writers if tag == ACL_USER)
    groups = [found.gid for tag, _ in writers if tag == ACL_GROUP_OBJ] + [who for tag, who in writers if tag == ACL_GROUP]
    return replace(found, users=users, groups=tuple(groups), acl=True)


def check_files(files: Iterable[Owned], trust: Trust, *, mend: Path | None = None) -> None:
    """Raise UsageError if others may have written any of these files. `mend` is the folder that contains all of them."""
    faults = [(found, fault) for found in files if (fault := fault_of(found, trust)) is not None]
    if faults:
        raise _not_trusted(faults, trust, mend)


def _not_trusted(faults: Sequence[tuple[Owned, str]], trust: Trust, mend: Path | None) -> NotTrustedError:
    shown = ", ".join(
        f"{found.path} is {fault} (mode {found.mode:04o}, owner {_user(found.uid)}, group {_group(found.gid)})"
        for found, fault in faults[:FILES_SHOWN]
    )
    more = f" and {len(faults) - FILES_SHOWN:,} more" if len(faults) > FILES_SHOWN else ""
    ways = list(_ways_out([found for found, _ in faults], trust, mend))
    return NotTrustedError(f"{shown}{more}", "; ".join(ways), may_share=any("--group" in way for way in ways))


def _ways_out(found: Sequence[Owned], trust: Trust, mend: Path | None) -> Iterator[str]:
    yield "anyone who can write it could have this command, or a later one, run programs in your name"
    strangers = [one for one in found if not trust.is_user(one.uid)]
    if not strangers:
        bits = "".join(sign for sign, bit in (("g", GROUP_WRITES), ("o", OTHERS_WRITE)) if _needs(found, bit, trust))
        paths = [mend] if mend is not None and len(found) > FILES_SHOWN else [one.path for one in found]
        recursive = "-R " if mend is not None and len(found) > FILES_SHOWN else ""
        command = f"chmod {recursive}{bits}-w {shlex.join(map(str, paths))}"
        if trust.uid == ROOT or all(one.uid == trust.uid for one in found):
            yield f"look at what stands in it, then: {command}"
        else:
            yield f"look at what stands in it, and have its owner run: {command}, or take a folder of your own"
        if any(one.acl for one in found):
            place = shlex.quote(str(mend or found[0].path))
            yield f"new files get their ACL from the folder's: setfacl -R -bk {place} removes it"
    elif any(one.uid == NOBODY for one in strangers):
        yield (
            "the owner `nobody` stands for owners that a file system does not report (to root on NFS with root_squash, and "
            "on NFS without its map of users): work as a user that it knows, or on another file system"
        )
    else:
        yield "copy what you need of it into a folder of your own, or have its owner run this"
    if trust.group is None and not any(one.mode & OTHERS_WRITE or one.uid == NOBODY for one in found):
        groups = {one.gid for one in found if one.mode & GROUP_WRITES}
        name = _group(*groups) if len(groups) == 1 else "NAME"
        yield f"if you trust everybody in a group that shares it: --group {name}"


def _needs(found: Sequence[Owned], bit: int, trust: Trust) -> bool:
    return any(one.mode & bit and (bit == OTHERS_WRITE or _by_group(one, trust)) for one in found)


def _by_group(one: Owned, trust: Trust) -> bool:
    return fault_of(replace(one, mode=one.mode & ~OTHERS_WRITE), trust) is not None


def check_folder(output_dir: Path, paths: Iterable[Path], trust: Trust) -> None:
    """Raise UsageError if the run folder, or one of these `paths` of it, may have been written by others.

    Missing files need no check: this user will create them. None of our files is a link: an existing link was planted by
    someone with write access, to make a later command write elsewhere.
    """
    paths = list(paths)
    for path in paths:
        if path.is_symlink() and not path.is_dir():
            raise NotTrustedError(
                f"{path} is a link to {path.readlink()}, and a run makes none",
                "its creator could make this command, or a later one, write elsewhere; look where it leads, then: "
                f"rm {shlex.quote(str(path))}",
            )

    def there() -> Iterator[Owned]:
        for path in (output_dir, *paths):
            with suppress(FileNotFoundError, NotADirectoryError):
                yield owned(path, path.stat())

    check_files(there(), trust, mend=output_dir)


def trust_of(group: str | None = None, umask: str | None = None) -> Trust:
    """The users that this process trusts, and its umask, from the options --group and --umask. Raises UsageError.

    Without a named group, created files are not group-writable: they would be refused the next time.
    """
    uid = os.geteuid()
    own_group = _own_group(uid)
    if group is None:
        return Trust(uid, _parse_umask(umask, shared=False) if umask else private_umask(), own_group)
    gid = _gid(group)
    wanted = _parse_umask(umask, shared=True) if umask else (_ambient_umask() | OTHERS_WRITE) & ~0o070
    member = functools.cache(lambda other: gid in _groups_of(other))  # may query a directory server
    return Trust(uid, wanted, own_group, gid, _group(gid), member)


def private_umask() -> int:
    """The process's umask, tightened to deny others write access."""
    return _ambient_umask() | 0o022


def _ambient_umask() -> int:
    ambient = os.umask(0o077)
    os.umask(ambient)
    return ambient


def _parse_umask(text: str, *, shared: bool) -> int:
    if not re.fullmatch(r"[0-7]{1,4}", text) or (value := int(text, 8)) & OWNER_BITS or value > 0o777:
        raise UsageError(f"--umask {text}: expected an octal number that keeps nothing from you, such as 022, 027 or 077")
    if not value & OTHERS_WRITE:
        raise UsageError(f"--umask {text}: everybody could write what is created: expected one that ends in 2, 3, 6 or 7")
    if shared and value & 0o070:
        raise UsageError(f"--umask {text}: keeps the group out: expected 002 or 007 with --group")
    if not shared and not value & GROUP_WRITES:
        raise UsageError(f"--umask {text}: the group could write what is created: say which is trusted with --group")
    return value


def _gid(name: str) -> int:
    try:
        found = grp.getgrnam(name) if not name.isdecimal() else grp.getgrgid(int(name))
    except (KeyError, OverflowError):
        raise UsageError(f"--group {name}: there is no such group here: expected one of `id -Gn`") from None
    if os.geteuid() != ROOT and found.gr_gid not in (os.getegid(), *os.getgroups()):
        raise UsageError(f"--group {name}: you are not in it: expected one of `id -Gn`")
    return found.gr_gid


def _groups_of(uid: int) -> list[int]:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return []
    return os.getgrouplist(user.pw_name, user.pw_gid)


def _own_group(uid: int) -> int | None:
    """The group named after the user, if it has no other members."""
    try:
        user = pwd.getpwuid(uid)
        group = grp.getgrgid(user.pw_gid)
    except KeyError:
        return None
    return group.gr_gid if group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name} else None


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"


def share(folders: Iterable[Path], files: Iterable[Path], trust: Trust) -> None:
    """Make this user's folders and files group-writable, as well as files created later in the folders.

    Other users' files and the targets of links are unchanged. Does nothing without a group.
    """
    gid = trust.group
    if gid is None:
        return
    for paths, bits in ((folders, stat.S_ISGID | 0o070), (files, 0o060)):
        for path in paths:
            with suppress(FileNotFoundError):
                status = path.lstat()
                if status.st_uid != os.geteuid() or stat.S_ISLNK(status.st_mode):
                    continue
                if status.st_gid != gid:
                    os.chown(path, -1, gid)
                if status.st_mode & bits != bits or status.st_gid != gid:
                    path.chmod(stat.S_IMODE(path.stat().st_mode) | bits)
