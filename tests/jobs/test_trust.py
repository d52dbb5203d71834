"""jobs/trust.py: a file counts as a person's word only if nobody else can have written it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.owners import give_away, some_group

from audio_tokenizers.errors import UsageError
from jobs.trust import Owned, Trust, check_files, check_folder, fault_of, owned, private_umask, share, trust_of

ME, BOB, LAB, OWN = 1000, 1001, 5000, 1000
MINE = Trust(ME, 0o022, own_group=OWN)
SHARED = Trust(ME, 0o002, own_group=OWN, group=LAB, group_name="lab", member=lambda uid: uid == BOB)
ACL = struct.pack("<I", 2)


def entry(tag: int, perm: int, who: int = 0xFFFFFFFF) -> bytes:
    return struct.pack("<HHI", tag, perm, who)


@pytest.fixture
def ambient() -> Iterator[None]:
    """The umask is as before, whatever the test does to it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def file(mode: int, uid: int = ME, gid: int = 100) -> Owned:
    return Owned(Path("/run/run.json"), uid, gid, mode)


class TestFaults:
    @pytest.mark.parametrize(
        ("found", "mine", "shared"),
        [
            (file(0o644), None, None),
            (file(0o600), None, None),
            (file(0o755, uid=0), None, None),
            (file(0o2755, gid=LAB), None, None),
            (file(0o664, gid=OWN), None, None),
            (file(0o646), "writable by everybody", "writable by everybody"),
            (file(0o1777), "writable by everybody", "writable by everybody"),
            (file(0o664), "writable by group", "writable by group"),
            (file(0o664, gid=0, uid=0), "writable by group", "writable by group"),
            (file(0o664, gid=LAB), "writable by group", None),
            (file(0o644, uid=BOB), "owned by another user", None),
            (file(0o664, uid=BOB, gid=LAB), "owned by another user", None),
            (file(0o664, uid=BOB, gid=OWN), "owned by another user", None),
            (file(0o644, uid=7777, gid=LAB), "owned by another user", "owned by another user"),
            (file(0o666, uid=BOB, gid=LAB), "owned by another user", "writable by everybody"),
        ],
    )
    def test_owners_and_modes(
        self, found: Owned, mine: str | None, shared: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A user and root, and who is in the group that a person named; nobody else may own a file or write it."""
        monkeypatch.setattr(pwd, "getpwuid", nobody_known)
        for trust, fault in ((MINE, mine), (SHARED, shared)):
            said = fault_of(found, trust)
            assert (said is None) == (fault is None)
            assert (said or "").startswith(fault or "")

    def test_as_root(self) -> None:
        """Root believes root alone: whoever owns a file would otherwise become root."""
        root = Trust(0, 0o022, own_group=0)
        assert fault_of(file(0o644, uid=0, gid=0), root) is None
        assert fault_of(file(0o664, uid=0, gid=0), root) is None
        assert fault_of(file(0o600), root) is not None
        assert fault_of(file(0o600, uid=65534), root) is not None

    def test_who_owns_the_code(self) -> None:
        """Where it counts, the owner of the code that runs is believed too."""
        assert fault_of(file(0o644, uid=BOB), replace(MINE, code_owner=BOB)) is None
        assert fault_of(file(0o664, uid=BOB), replace(MINE, code_owner=BOB)) is not None

    @pytest.mark.parametrize(
        ("entries", "mine", "shared"),
        [
            ([entry(0x02, 7, BOB)], "writable by uid 1001, by an ACL", None),
            ([entry(0x02, 7, 7777)], "writable by uid 7777, by an ACL", "writable by uid 7777, by an ACL"),
            ([entry(0x08, 7, LAB)], "writable by group", None),
            ([entry(0x08, 7, 6000)], "writable by group", "writable by group"),
            ([entry(0x02, 5, 7777), entry(0x08, 4, 6000)], None, None),
            ([entry(0x02, 7, ME), entry(0x08, 7, OWN)], None, None),
        ],
    )
    def test_acls(
        self,
        entries: list[bytes],
        mine: str | None,
        shared: str | None,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Whom an ACL names counts like whom the mode means; the mode's group bits are then only its mask."""
        acl = ACL + b"".join([entry(0x01, 7), *entries, entry(0x04, 5), entry(0x10, 7), entry(0x20, 5)])
        monkeypatch.setattr(os, "getxattr", lambda _path, _name: acl)
        monkeypatch.setattr(pwd, "getpwuid", nobody_known)
        tmp_path.chmod(0o775)
        found = replace(owned(tmp_path, tmp_path.stat()), uid=ME, gid=100)
        for trust, fault in ((MINE, mine), (SHARED, shared)):
            assert (fault_of(found, trust) or "").startswith(fault or "")
            assert (fault_of(found, trust) is None) == (fault is None)
        tmp_path.chmod(0o755)
        assert fault_of(replace(owned(tmp_path, tmp_path.stat()), uid=ME), MINE) is None


def nobody_known(uid: int) -> pwd.struct_passwd:
    raise KeyError(uid)


class TestWords:
    def test_path_mode_owner_and_the_chmod(self, tmp_path: Path) -> None:
        """Which path, whose, how; and the command that mends just that."""
        path = tmp_path / "it's"
        path.write_text("x")
        path.chmod(0o666)
        with pytest.raises(UsageError) as told:
            check_folder(tmp_path, [path], replace(trust_of(), own_group=None))
        words = str(told.value)
        assert f"not trusted: {path} is writable by everybody (mode 0666, owner " in words
        assert f"""chmod go-w '{tmp_path}/it'"'"'s'""" in words
        assert "--group" not in words

    def test_many_paths_have_one_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A whole folder that a group may write: three are named, and one command for all; or the group is."""
        name, gid = some_group(monkeypatch)
        paths = [tmp_path / str(number) for number in range(5)]
        for path in paths:
            path.touch()
            os.chown(path, -1, gid)
            path.chmod(0o664)
        with pytest.raises(UsageError, match=rf"0 is writable by group {name} .* and 2 more") as told:
            check_folder(tmp_path, paths, trust_of())
        assert f"chmod -R g-w {tmp_path};" in str(told.value)
        assert str(told.value).endswith(f"if you trust everybody in a group that shares it: --group {name}")
        check_folder(tmp_path, paths, trust_of(name))

    def test_somebody_elses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No chmod mends that: it is copied, or its owner goes on with it."""
        give_away(tmp_path, monkeypatch)
        with pytest.raises(UsageError, match=r"is owned by another user \(mode .*copy what you need of it") as told:
            check_folder(tmp_path, [], trust_of())
        assert "chmod" not in str(told.value)

    def test_what_only_its_owner_can_mend(self) -> None:
        """Of root's scratch folder, which all may write, a user is told who can run the chmod, and what to do without."""
        with pytest.raises(UsageError, match=r"have its owner run: chmod go-w /run/run.json, or take a folder of your own"):
            check_files([file(0o1777, uid=0)], MINE)
        with pytest.raises(UsageError, match=r"look at what stands in it, then: chmod go-w /run/run.json$"):
            check_files([file(0o1777, uid=0)], Trust(0, 0o022))

    def test_nobodys(self) -> None:
        """Where a file system shows nobody in an owner's place, the message says what that is."""
        with pytest.raises(UsageError, match="root_squash"):
            check_files([file(0o644, uid=65534)], MINE)

    def test_an_acl_goes_with_its_command(self) -> None:
        """Chmod closes what is there; new files would get the folder's ACL again."""
        found = Owned(Path("/run"), ME, 100, 0o775, users=(BOB,), acl=True)
        with pytest.raises(UsageError, match=r"chmod g-w /run; new files .*: setfacl -R -bk /run removes it"):
            check_files([found], MINE, mend=Path("/run"))

    def test_what_is_not_there_yet(self, tmp_path: Path) -> None:
        """A folder that is still to be made, or a file in a place of a folder, is nobody's trouble here."""
        check_folder(tmp_path / "none", [tmp_path / "none" / "x"], trust_of())
        (tmp_path / "file").touch()
        check_folder(tmp_path / "file", [tmp_path / "file" / "x"], trust_of())


@pytest.mark.usefixtures("ambient")
class TestAsked:
    @pytest.mark.parametrize(
        ("ambient_umask", "alone", "shared"), [(0o022, 0o022, 0o002), (0, 0o022, 0o002), (0o77, 0o77, 0o7)]
    )
    def test_umask(self, ambient_umask: int, alone: int, shared: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing that is created is ever writable by all, nor by a group unless one is named; what is stricter stays."""
        name, _ = some_group(monkeypatch)
        os.umask(ambient_umask)
        assert (trust_of().umask, trust_of(name).umask) == (alone, shared)
        assert private_umask() == alone
        assert os.umask(0o022) == ambient_umask
        assert (trust_of(umask="0027").umask, trust_of(umask="77").umask, trust_of(name, "007").umask) == (0o27, 0o77, 0o7)

    @pytest.mark.parametrize("text", ["", "8", "022x", "00022", "722", "0", "020", "022222", "-1", "0o22"])
    def test_umasks_that_are_none(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A umask that would keep files from their owner, or give them to everybody, is refused."""
        name, _ = some_group(monkeypatch)
        if text:
            for group in (None, name):
                with pytest.raises(UsageError, match=rf"^--umask {text}: "):
                    trust_of(group, text)

    def test_umasks_and_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A group that could write is named, and a group that is named can write."""
        name, _ = some_group(monkeypatch)
        with pytest.raises(UsageError, match=r"--umask 002: the group could write .*--group"):
            trust_of(umask="002")
        with pytest.raises(UsageError, match=r"--umask 022: keeps the group out"):
            trust_of(name, "022")

    def test_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By name or number; one that does not exist, or that the user is not in, is refused."""
        name, gid = some_group(monkeypatch)
        for given in (name, str(gid)):
            trust = trust_of(given)
            assert (trust.group, trust.group_name) == (gid, name)
        for wrong in ("no-such-group", str(2**40)):
            with pytest.raises(UsageError, match=rf"--group {wrong}: there is no such group"):
                trust_of(wrong)
        monkeypatch.setattr(os, "geteuid", lambda: 4321)
        monkeypatch.setattr(os, "getgroups", list)
        monkeypatch.setattr(os, "getegid", lambda: 4321)
        with pytest.raises(UsageError, match=rf"--group {name}: you are not in it"):
            trust_of(name)

    def test_members(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who is in the group, be it as their first one or as a further one; nobody whom the system does not know."""
        name, gid = some_group(monkeypatch)
        users = {1: "a", 2: "b", 3: "c"}

        def known(uid: int) -> pwd.struct_passwd:
            return pwd.struct_passwd((users[uid], "x", uid, 9, "", "/", "/bin/sh"))

        monkeypatch.setattr(pwd, "getpwuid", known)
        monkeypatch.setattr(os, "getgrouplist", lambda user, first: {"a": [first, gid], "b": [gid], "c": [first]}[user])
        trust = trust_of(name)
        assert [trust.member(uid) for uid in (1, 2, 3, 4)] == [True, True, False, False]

    @pytest.mark.parametrize(
        ("name", "members", "own"),
        [("me", [], True), ("me", ["me"], True), ("me", ["me", "bob"], False), ("users", [], False)],
    )
    def test_a_group_of_ones_own(self, name: str, members: list[str], own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Many systems give each user a group of that name: what it may write nobody else may, unless somebody joins."""
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("me", "x", uid, 77, "", "/", "/bin/sh")))
        monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group((name, "x", gid, members)))
        assert trust_of().own_group == (77 if own else None)


class TestShare:
    def test_folders_and_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Folders hand their group on to what is made in them; nobody loses what they had; a second time changes nothing."""
        name, gid = some_group(monkeypatch)
        folder, path, program = tmp_path / "folder", tmp_path / "folder" / "file", tmp_path / "program"
        folder.mkdir(mode=0o700)
        path.touch(mode=0o640)
        program.touch(mode=0o755)
        for _ in range(2):
            share([folder, tmp_path / "none"], [path, program, tmp_path / "none"], trust_of(name))
            modes = [stat.S_IMODE(each.stat().st_mode) for each in (folder, path, program)]
            assert modes == [0o2770, 0o660, 0o775]
            assert {each.stat().st_gid for each in (folder, path, program)} == {gid}
        (folder / "new").touch()
        assert (folder / "new").stat().st_gid == gid

    def test_without_a_group(self, tmp_path: Path) -> None:
        """Nothing is changed."""
        before = tmp_path.stat()
        share([tmp_path], [], trust_of())
        assert tmp_path.stat() == before

    def test_others_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Root could change them, and does not."""
        name, _ = some_group(monkeypatch)
        trust = trust_of(name)
        give_away(tmp_path, monkeypatch)
        before = tmp_path.stat()
        share([tmp_path], [], trust)
        assert (tmp_path.stat().st_mode, tmp_path.stat().st_gid) == (before.st_mode, before.st_gid)

    def test_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A link that somebody left in the run gives no file outside of it away."""
        name, gid = some_group(monkeypatch)
        private, keys = tmp_path / "private", tmp_path / "keys"
        private.touch(mode=0o600)
        keys.mkdir(mode=0o700)
        (tmp_path / "file").symlink_to(private)
        (tmp_path / "folder").symlink_to(keys)
        share([tmp_path / "folder"], [tmp_path / "file", tmp_path / "folder"], trust_of(name))
        for path, mode in ((private, 0o600), (keys, 0o700)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert path.stat().st_gid != gid
