# SPDX-License-Identifier: LGPL-2.1-or-later
"""A module that is taken out, as data: its name, what is printed, and what the journal says of it."""

import pytest

from libhook.errors import BadInput
from libhook.facts.config import Config
from libhook.kinds import module, registry
from libhook.kinds.module import unloading


def test_a_name_is_the_kernel_s_however_it_is_written() -> None:
    """``-`` and ``_`` are one to modprobe and two in /sys; two guests that write it otherwise mean one module."""
    one, other = unloading.out("snd-hda-intel"), unloading.out("snd_hda_intel")
    assert one == other
    assert (one.kind, one.key, one.subject) == ("module", "module snd_hda_intel", "the module snd_hda_intel")
    assert (one.ours, one.is_undone, one.needs, one.provides) == (True, True, (), ("module snd_hda_intel out",))


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "nvidia.ko", "x" * 64, "-é", "a\n", "a\0"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """It becomes part of a path, and an argument."""
    with pytest.raises(BadInput, match="is not the name of a module"):
        unloading.out(name)
    with pytest.raises(BadInput, match="is not the name of a module"):
        registry.read({"kind": "module", "out": name, "why": "", "drivers": []})


@pytest.mark.parametrize("name", ["vfio", "vfio_pci", "vfio-pci", "vfio_iommu_type1", "mlx5_vfio_pci", "VFIO"])
def test_vfio_is_never_taken_out(name: str) -> None:
    """Other guests run by it."""
    with pytest.raises(BadInput, match="is one of vfio's"):
        unloading.out(name)


def test_the_journal_says_what_was_taken() -> None:
    """And no more than that: what comes back is decided from what is found then."""
    one = unloading.out("nvidia-drm", "for 0000:03:00.0", ("gpu-idle",), ("nvidia",))
    assert one.provides == ("module nvidia_drm out", "driver nvidia is out")
    assert one.to_json() == {"kind": "module", "out": "nvidia_drm", "why": "for 0000:03:00.0", "drivers": ["nvidia"]}
    assert registry.read(one.to_json()) == one._replace(needs=())
    assert one.show() == {"action": "module", "module": "nvidia_drm", "out": True, "why": "for 0000:03:00.0"}
    assert (one.summary, one._replace(back=True).summary) == ("taken out", "given back")
    for field, value in (("out", None), ("why", 3), ("drivers", [1]), ("drivers", None)):
        with pytest.raises(BadInput, match="not a module that is out"):
            registry.read({**one.to_json(), field: value})


def test_what_is_printed_names_the_module_and_what_is_run() -> None:
    """In the dry run as in the log; the reason may hold anything."""
    assert unloading.out("nvidia", "so\nit is").describe() == (
        "take the module nvidia out (so\\nit is)",
        "  rmmod nvidia",
    )
    assert unloading.out("nvidia").describe()[0] == "take the module nvidia out"
    assert unloading.out("nvidia")._replace(back=True).describe() == (
        "give the module nvidia back, if it was loaded and no other guest needs it out",
        "  modprobe nvidia",
    )
    assert module.KIND.seconds(Config(write_deadline=7), ()) == 7


def test_what_is_loaded_stays_loaded() -> None:
    """Others may use it by then, so it is not journalled; the dry run shows it by its driver."""
    load = module.Load("vfio-pci")
    assert (load.subject, load.summary, load.is_undone) == ("the module vfio_pci", "loaded", False)
    assert load.show() == {"action": "load", "driver": "vfio-pci"}
    with pytest.raises(BadInput):
        registry.read(load.to_json())
