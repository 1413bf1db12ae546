from pathlib import Path

import pytest

from spiking_centernet.cli import doctor
from spiking_centernet.errors import NativeLibraryError
from spiking_centernet.ops.library import Native


def finding(name):
    (found,) = [f for f in doctor.examine() if f.what == name]
    return found


def test_says_which_native_kernels_are_in_use(monkeypatch):
    library = Native(Path("/place/_native.so"), ("avx2", "portable"), "portable", None)
    monkeypatch.setattr(doctor, "native", lambda: library)
    monkeypatch.setattr(doctor, "why_missing", lambda: None)
    found = finding("native kernels")
    assert found.ok
    assert found.found == "portable (this CPU runs avx2, portable), /place/_native.so"


@pytest.mark.parametrize(("variable", "fix"), [(None, "install a C compiler"), ("off", "unset SCN_NATIVE")])
def test_says_why_there_are_none_and_how_to_get_them(monkeypatch, variable, fix):
    monkeypatch.delenv("SCN_NATIVE", raising=False)
    if variable is not None:
        monkeypatch.setenv("SCN_NATIVE", variable)
    monkeypatch.setattr(doctor, "why_missing", lambda: "not built")
    found = finding("native kernels")
    assert not found.ok
    assert found.found.startswith("none (not built): ")
    assert found.fix.startswith(fix)


def test_shows_a_library_that_does_not_fit(monkeypatch):
    monkeypatch.delenv("SCN_NATIVE", raising=False)
    monkeypatch.delenv("SCN_ISA", raising=False)

    def unfit():
        raise NativeLibraryError("/place/_native.so does not fit this version of the package")

    monkeypatch.setattr(doctor, "why_missing", unfit)
    found = finding("native kernels")
    assert not found.ok
    assert "does not fit" in found.found
    assert "pip install" in found.fix
