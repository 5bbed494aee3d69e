"""``python -m wsframe vendor``: making a copy, updating it, checking it. What a copy does: test_vendored_host.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import wsframe
from wsframe.cli import _copies, main
from wsframe.cli._vendor import names

CHECKOUT = Path(__file__).resolve().parents[1]
COPY = "myserver/_vendor/ws"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def copy(project: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["vendor", COPY]) == 0
    capsys.readouterr()
    return project / COPY


def stamp(copy: Path) -> dict[str, object]:
    value = json.loads((copy / "VENDORED.json").read_text())
    assert isinstance(value, dict)
    return value


def restamp(copy: Path, **changes: object) -> None:
    (copy / "VENDORED.json").write_text(json.dumps({**stamp(copy), **changes}))


def tree(directory: Path) -> dict[str, bytes]:
    paths = [path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def make_older(copy: Path) -> None:
    """Turn a fresh copy into one of an older wsframe, which lacked one file, had another, and differed in a third."""
    files = stamp(copy)["sha256"]
    assert isinstance(files, dict)
    (copy / "_uri.py").unlink()
    del files["_uri.py"]
    for name in ("_wurst.py", "_enums.py"):
        (copy / name).write_text("old = True\n")
        files[name] = _copies.stamp_of({name: b"old = True\n"}, []).files[name]
    restamp(copy, version="0.0.1", sha256=files)


def check(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = main(["vendor", "--check", COPY])
    return status, [line.removeprefix(f"{COPY}: ") for line in capsys.readouterr().out.splitlines()]


# --- making one -------------------------------------------------------------------------------------------


def test_copy(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vendor", COPY]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"copied wsframe {wsframe.__version__} (core) to {COPY}: ")
    assert "from myserver._vendor import ws\n" in out
    files = tree(project / COPY)
    assert {
        "__init__.py",
        "_connection.py",
        "_http11/__init__.py",
        "py.typed",
        "LICENSE",
        "VENDORED.json",
    } <= files.keys()
    assert {path.partition("/")[0] for path in files} & {
        "cli",
        "aio",
        "sync",
        "_adapter",
        "_adapter_io",
        "__main__.py",
    } == set()
    for name in files.keys() - {"LICENSE", "VENDORED.json"}:
        assert files[name] == (CHECKOUT / "wsframe" / name).read_bytes()
    assert files["LICENSE"] == (CHECKOUT / "LICENSE").read_bytes()
    assert (project / "myserver/__init__.py").read_bytes() == b""
    assert (project / "myserver/_vendor/__init__.py").read_bytes() == b""
    assert sorted(os.listdir(project / "myserver/_vendor")) == ["__init__.py", "ws"]


def test_stamp(copy: Path) -> None:
    value = stamp(copy)
    assert value["version"] == wsframe.__version__
    assert value["with"] == []
    assert value["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", str(value["commit"]))
    files = value["sha256"]
    assert isinstance(files, dict)
    assert files.keys() == tree(copy).keys() - {"VENDORED.json"}


def test_the_same_source_gives_the_same_copy(copy: Path) -> None:
    assert main(["vendor", "elsewhere/ws"]) == 0
    assert tree(copy) == tree(Path("elsewhere/ws"))


def test_with_an_adapter(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vendor", COPY, "--with", "aio"]) == 0
    files = tree(project / COPY)
    assert {"aio/__init__.py", "_adapter/__init__.py", "_adapter_io/__init__.py"} <= files.keys()
    assert stamp(project / COPY)["with"] == ["aio"]
    assert main(["vendor", "--check", COPY]) == 0
    assert "unchanged and current, wsframe" in capsys.readouterr().out


def test_every_extension_is_compiled_and_an_adapters_goes_with_it(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = project / "source/wsframe"
    shutil.copytree(CHECKOUT / "wsframe", source, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.c"))
    for name in "LICENSE", "pyproject.toml":
        shutil.copy(CHECKOUT / name, source.parent)
    (source / "_other.pyx").touch()
    (source / "_adapter_other.pyx").touch()
    monkeypatch.setattr(_copies, "PACKAGE", source)
    assert main(["vendor", COPY]) == 0
    compiled = re.findall(r'Extension\("([\w.]+)", \["([\w/.]+)"\]', capsys.readouterr().out)
    assert [("myserver._vendor.ws._other", f"{COPY}/_other.pyx")] == [x for x in compiled if "other" in x[0]]
    assert main(["vendor", COPY, "--with", "sync"]) == 0
    compiled = re.findall(r'Extension\("myserver._vendor.ws.(\w+)"', capsys.readouterr().out)
    assert {"_adapter_other", "_codec", "_other"} <= set(compiled)


def test_around_the_copy_nothing_existing_is_touched(project: Path) -> None:
    (project / "myserver").mkdir()
    (project / "myserver/__init__.py").write_text("x = 1\n")
    (project / "myserver/_vendor").mkdir()
    assert main(["vendor", COPY]) == 0
    assert (project / "myserver/__init__.py").read_text() == "x = 1\n"
    assert os.listdir(project / "myserver/_vendor") == ["ws"]


ECHO = """
import asyncio
import sys

from myserver._vendor.ws import aio

async def echo(ws):
    async for message in ws:
        await ws.send(message)

async def main():
    async with aio.serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with aio.connect(f"ws://127.0.0.1:{port}/") as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
            await ws.send(b"bytes")
            assert await ws.recv() == b"bytes"

asyncio.run(main())
strays = [name for name in sys.modules if name.partition(".")[0] == "wsframe"]
assert not strays, strays
"""


def test_an_adapter_works_in_a_copy(project: Path) -> None:
    assert main(["vendor", COPY, "--with", "aio"]) == 0
    environment = {**os.environ, "PYTHONPATH": str(project)}
    subprocess.run([sys.executable, "-W", "error", "-c", ECHO], env=environment, check=True, timeout=60)


def test_the_package_does_not_import_an_adapter(project: Path) -> None:
    assert main(["vendor", COPY, "--with", "aio"]) == 0
    script = "import sys, myserver._vendor.ws; assert not {'asyncio', 'myserver._vendor.ws.aio'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], cwd=project, check=True, timeout=60)


# --- checking one -----------------------------------------------------------------------------------------


def test_check_finds_nothing(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(capsys) == (0, [f"unchanged and current, wsframe {wsframe.__version__} (core)"])


def test_check_names_every_difference(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (copy / "_events.py").open("a") as file:
        file.write("# mine\n")
    (copy / "_http11/_reader.py").unlink()
    (copy / "LICENSE").unlink()
    (copy / "_mine.py").touch()
    assert check(capsys) == (
        1,
        [
            "LICENSE is missing",
            "_events.py was changed",
            "_http11/_reader.py is missing",
            "_mine.py was added: it is not from wsframe",
        ],
    )


def test_a_link_is_a_change(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "_events.py").rename(copy.parent / "_events.py")
    (copy / "_events.py").symlink_to("../_events.py")
    assert check(capsys) == (1, ["_events.py was changed"])


def test_what_building_and_version_control_do_is_no_change(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("_codec.c", "_codec.cpython-311-x86_64-linux-gnu.so", "_codec.cp311-win_amd64.pyd"):
        (copy / name).write_bytes(b"\x7fELF")
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__/_events.cpython-311.pyc").touch()
    (copy / "_events.py").write_bytes((copy / "_events.py").read_bytes().replace(b"\n", b"\r\n"))
    assert check(capsys)[0] == 0


def test_out_of_date_by_version(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_older(copy)
    assert check(capsys) == (
        1,
        [f"out of date: copied from wsframe 0.0.1, and this is {wsframe.__version__}"],
    )


def test_out_of_date_by_content(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_older(copy)
    version = wsframe.__version__
    restamp(copy, version=version)
    assert check(capsys) == (
        1,
        [f"out of date: this wsframe {version} differs from it in _enums.py, _uri.py, _wurst.py"],
    )


def test_changed_and_out_of_date(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_older(copy)
    (copy / "_enums.py").write_text("mine = True\n")
    status, lines = check(capsys)
    assert status == 1
    assert [line.partition(":")[0] for line in lines] == ["_enums.py was changed", "out of date"]


def test_an_adapter_that_is_gone_is_out_of_date(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    restamp(copy, **{"with": ["pigeon"], "version": "0.0.1"})
    assert check(capsys)[0] == 1
    assert main(["vendor", COPY]) == 1
    assert "has pigeon, which this wsframe has not" in capsys.readouterr().err


# --- updating one -----------------------------------------------------------------------------------------


def test_update(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fresh = tree(copy)
    make_older(copy)
    (copy / "notes").mkdir()
    (copy / "notes/ours.txt").write_text("ours")
    (copy / "notes/ours.txt").chmod(0o600)
    (copy / "_enums.py").unlink()  # what is missing is no change that could be lost
    assert main(["vendor", COPY]) == 0
    out = capsys.readouterr().out.splitlines()
    version = wsframe.__version__
    assert out[0].startswith(f"updated {COPY} from wsframe 0.0.1 (core) to wsframe {version} (core): ")
    assert out[1:3] == [
        "removed _wurst.py, which is no longer part of it",
        "kept notes/ours.txt, which is not from wsframe",
    ]
    assert tree(copy) == {**fresh, "notes/ours.txt": b"ours"}
    assert (copy / "notes/ours.txt").stat().st_mode & 0o777 == 0o600
    assert check(capsys) == (1, ["notes/ours.txt was added: it is not from wsframe"])
    assert sorted(os.listdir(copy.parent)) == ["__init__.py", "ws"]


def test_update_keeps_and_adds_adapters(copy: Path) -> None:
    assert main(["vendor", COPY, "--with", "aio"]) == 0
    assert (copy / "aio/__init__.py").exists()
    assert main(["vendor", COPY]) == 0
    assert (copy / "aio/__init__.py").exists()
    assert stamp(copy)["with"] == ["aio"]


@pytest.mark.parametrize("name", ["_enums.py", "_wurst.py", "_uri.py"])
def test_update_stops_at_a_change(copy: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    fresh = tree(copy)
    make_older(copy)
    (copy / name).write_text("mine = True\n")
    before = tree(copy)
    assert main(["vendor", COPY]) == 1
    error = capsys.readouterr().err
    assert f"{COPY} was changed since it was copied, and nothing was done: {name}." in error
    assert "--force" in error
    assert tree(copy) == before
    assert main(["vendor", COPY, "--force"]) == 0
    assert tree(copy) == fresh


def test_a_change_that_came_to_wsframe_too_is_not_in_the_way(copy: Path) -> None:
    make_older(copy)
    (copy / "_enums.py").write_bytes((CHECKOUT / "wsframe/_enums.py").read_bytes())
    assert main(["vendor", COPY]) == 0


def test_what_was_built_from_another_source_goes(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = "_codec.cpython-311-x86_64-linux-gnu.so"
    (copy / built).touch()
    assert main(["vendor", COPY]) == 0
    assert (copy / built).exists()
    files = stamp(copy)["sha256"]
    assert isinstance(files, dict)
    (copy / "_other.pyx").touch()
    restamp(copy, sha256={**files, "_other.pyx": _copies.stamp_of({"": b""}, []).files[""]})
    capsys.readouterr()
    assert main(["vendor", COPY]) == 0
    assert f"removed {built}, which was built from the former copy: build it again" in capsys.readouterr().out
    assert not (copy / built).exists()


@pytest.mark.parametrize("operation", ["rename", "write_bytes"])
def test_a_failing_update_leaves_the_copy(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], operation: str
) -> None:
    before = tree(copy)
    original = getattr(Path, operation)
    failing = 0

    def fail(self: Path, *args: object) -> object:
        nonlocal failing
        if self.name in ("new", "_uri.py"):
            failing += 1
            raise OSError("no space left on device")
        return original(self, *args)

    monkeypatch.setattr(Path, operation, fail)
    assert main(["vendor", COPY]) == 1
    assert failing == 1
    assert capsys.readouterr().err == "python -m wsframe vendor: no space left on device\n"
    assert tree(copy) == before
    assert sorted(os.listdir(copy.parent)) == ["__init__.py", "ws"]


# --- wrong usage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["there"], "there exists and is not a copy of wsframe: it has no VENDORED.json"),
        (["file.py"], "'file.py' cannot be the name of a package"),
        (["a-b/ws"], "'a-b' cannot be the name of a package"),
        (["a/class"], "'class' cannot be the name of a package"),
        (["link"], "link is a symbolic link"),
        ([str(CHECKOUT / "wsframe/ws")], "lies in wsframe itself"),
        ([str(CHECKOUT / "wsframe")], "lies in wsframe itself"),
        (["there", "--check"], "there is not a copy of wsframe: it has no VENDORED.json"),
        (["nowhere", "--check"], "nowhere is not a copy of wsframe: it does not exist"),
        (["ws", "--check", "--force"], "make no sense"),
        (["ws", "--check", "--with", "aio"], "make no sense"),
    ],
)
def test_wrong_usage(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (project / "there").mkdir()
    (project / "file.py").touch()
    (project / "link").symlink_to("there")
    before = sorted(project.rglob("*"))
    assert main(["vendor", *arguments]) == 2
    out, error = capsys.readouterr()
    assert error.startswith("python -m wsframe vendor: ")
    assert message in error
    assert out == ""
    assert sorted(project.rglob("*")) == before


def test_unknown_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["vendor", COPY, "--with", "pigeon"])
    assert caught.value.code == 2
    assert "pigeon" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 1}', "\xff"])
def test_a_spoiled_stamp(copy: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (copy / "VENDORED.json").write_text(text, encoding="latin-1")
    for arguments in ([COPY], [COPY, "--check"]):
        assert main(["vendor", *arguments]) == 1
        assert "was changed and cannot be read any more" in capsys.readouterr().err


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("existing", "dest", "expected"),
    [
        ([], "ws", ("ws", "ws")),
        ([], "a/_vendor/ws", ("a._vendor.ws", "a/_vendor/ws")),
        (["a/__init__.py"], "a/_vendor/ws", ("a._vendor.ws", "a/_vendor/ws")),
        (["pyproject.toml", "src/a/__init__.py"], "src/a/ws", ("a.ws", "src/a/ws")),
        # A directory without __init__.py between two packages.
        (
            ["setup.py", "src/a/__init__.py", "src/a/_vendor/x"],
            "src/a/_vendor/ws",
            ("a._vendor.ws", "src/a/_vendor/ws"),
        ),
        # What lies above the project is not part of the package.
        (["__init__.py", "p/setup.py", "p/a/__init__.py"], "p/a/ws", ("a.ws", "a/ws")),
        (["pyproject.toml"], "ws", ("ws", "ws")),
    ],
)
def test_names(project: Path, existing: list[str], dest: str, expected: tuple[str, str]) -> None:
    for name in existing:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    module, source = names(project / dest)
    assert (".".join(module), source) == expected


# --- where it comes from ----------------------------------------------------------------------------------


def test_commit(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    package = project / "wsframe"
    package.mkdir()
    for name in ("LICENSE", "pyproject.toml", "wsframe/__init__.py"):
        (project / name).touch()
    monkeypatch.setattr(_copies, "PACKAGE", package)
    assert _copies.current_commit() is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    commit = _copies.current_commit()
    assert commit is not None
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (package / "__init__.py").write_text("x = 1\n")
    assert _copies.current_commit() == f"{commit}-dirty"


def test_from_an_installed_wheel(project: Path) -> None:
    """All that a copy needs is in the wheel, the licence and the codec's source too."""
    source, installed = project / "source", project / "installed"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "*.c")
    shutil.copytree(CHECKOUT / "wsframe", source / "wsframe", ignore=ignored)
    subprocess.run(
        [sys.executable, "-c", "import setuptools.build_meta as b; b.build_wheel('dist')"],
        cwd=source,
        env={**os.environ, "WSFRAME_BUILD_EXT": "0"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = (source / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "wsframe", "vendor", "here/ws", "--with", "aio"]
    subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True, timeout=60)
    assert main(["vendor", "there/ws", "--with", "aio"]) == 0
    here, there = tree(project / "here/ws"), tree(project / "there/ws")
    # Only the checkout knows its commit.
    assert stamp(project / "here/ws")["commit"] is None
    assert {**here, "VENDORED.json": b""} == {**there, "VENDORED.json": b""}
