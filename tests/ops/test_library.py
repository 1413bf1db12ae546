"""The border to the native library: a build that does not fit is refused before it is handed anything."""

import ctypes
import shutil
import subprocess
import warnings

import pytest

from spiking_centernet.errors import NativeLibraryError
from spiking_centernet.ops import library
from spiking_centernet.ops.structs import ABI_VERSION, STRUCTS, facts

COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


def build(folder, source: str):
    """Compile a library of a few lines and return its path."""
    assert COMPILER is not None
    path = folder / "_native.so"
    (folder / "stub.c").write_text(source)
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", path, folder / "stub.c"], check=True)
    return path


def stub(abi_version: int, listed: dict[str, int]) -> str:
    """Return the source of a library that says of itself what it is told to, and has no kernels."""
    rows = "".join(f'{{"{name}", {value}}}, ' for name, value in listed.items())
    return f"""
        static const struct {{ const char *name; long long value; }} facts[] = {{ {rows} {{0, 0}} }};
        long long scn_abi_version(void) {{ return {abi_version}; }}
        const char *scn_abi_fact(long long i, long long *value) {{ *value = facts[i].value; return facts[i].name; }}
        const char *scn_instruction_sets(void) {{ return "portable"; }}
    """


@pytest.fixture
def load(monkeypatch):
    """Load the library of a path in place of the package's own."""

    def load(path):
        monkeypatch.setenv("SCN_NATIVE", str(path))
        monkeypatch.delenv("SCN_ISA", raising=False)
        return library._load.__wrapped__()

    return load


@pytest.mark.skipif(library.native() is None, reason="the native library is not built")
def test_the_library_of_this_version_is_accepted(load):
    path = library.native().path
    assert load(path).path == path


@needs_compiler
def test_a_library_that_says_the_same_is_accepted_and_lacks_its_kernels(tmp_path, load):
    loaded = load(build(tmp_path, stub(ABI_VERSION, facts())))
    assert loaded.instruction_sets == ("portable",)
    with pytest.raises(NativeLibraryError, match=r"no function scn_fill_portable.*pip install"):
        loaded.kernel("fill", [])


CHANGED = {
    "another size": lambda f: f | {"sizeof(Layer)": f["sizeof(Layer)"] + 8},
    "another offset": lambda f: f | {"offsetof(Plane, bytes)": 0},
    "another constant": lambda f: f | {"LIST_SLACK": 32},
    "a field more": lambda f: f | {"offsetof(PlifNeuron, theta)": 4},
    "a field less": lambda f: {name: value for name, value in f.items() if name != "offsetof(Lists, keys)"},
    "nothing": lambda f: {},
}


@needs_compiler
@pytest.mark.parametrize("what", CHANGED)
def test_a_library_with_other_structs_is_refused(tmp_path, load, what):
    path = build(tmp_path, stub(ABI_VERSION, CHANGED[what](facts())))
    with pytest.raises(NativeLibraryError, match=r"does not fit.* is needed; .*pip install.*unset SCN_NATIVE"):
        load(path)


@needs_compiler
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (stub(ABI_VERSION + 1, facts()), f"version {ABI_VERSION + 1} of the ABI"),
        (stub(ABI_VERSION - 1, facts()), f"version {ABI_VERSION - 1} of the ABI"),
        ('const char *scn_instruction_sets(void) { return "portable"; }', "does not say which ABI"),
    ],
)
def test_a_stale_or_foreign_library_is_refused(tmp_path, load, source, reason):
    with pytest.raises(NativeLibraryError, match=reason):
        load(build(tmp_path, source))


@pytest.mark.parametrize("content", [None, b"", b"no library"])
def test_a_file_that_does_not_load_is_refused(tmp_path, load, content):
    path = tmp_path / "_native.so"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NativeLibraryError, match="does not load"):
        load(path)


def test_every_field_of_every_struct_is_compared():
    """A struct that is left out of the comparison would be the one that corrupts memory."""
    import spiking_centernet.deploy.engine
    import spiking_centernet.ops.event_conv
    import spiking_centernet.ops.pooling  # noqa: F401

    ours = {s for s in ctypes.Structure.__subclasses__() if s.__module__.startswith("spiking_centernet.")}
    assert ours == set(STRUCTS)
    for struct in STRUCTS:
        fields = [name for name in facts() if name.startswith(f"offsetof({struct.__name__[1:]}, ")]
        assert len(fields) == len(struct._fields_)


@pytest.mark.parametrize(("switch", "count"), [("", 1), ("off", 0)])
def test_computing_without_the_library_is_said_once(monkeypatch, switch, count):
    library._warn_once.cache_clear()
    monkeypatch.setenv("SCN_NATIVE", switch)
    monkeypatch.setattr(library, "_load", lambda: "not built")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert library.native() is None
        assert library.native() is None
    assert len(caught) == count
    assert all("several times slower" in str(warning.message) for warning in caught)
