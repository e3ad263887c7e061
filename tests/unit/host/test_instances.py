"""Goal: what cannot work is refused before it is tried, and names fit the protocol.

Method: tables.
"""

import pytest
from photinus_core.host.instances import Category, InstanceConfig, checked_address
from photinus_core.model.errors import Rejected


@pytest.mark.parametrize(
    ("address", "insecure", "dialled"),
    [
        ("unix:/run/x.sock", False, "unix:/run/x.sock"),
        ("unix:///run/x.sock", False, "unix:/run/x.sock"),
        ("127.0.0.1:5000", True, "127.0.0.1:5000"),
        ("[::1]:5000", True, "[::1]:5000"),
        ("dns:///localhost:5000", True, "dns:///localhost:5000"),
    ],
)
def test_addresses_that_work(address: str, insecure: bool, dialled: str) -> None:
    assert checked_address(address, insecure=insecure) == dialled


@pytest.mark.parametrize(
    ("address", "insecure", "code"),
    [
        (f"unix:/{'a' * 100}", False, "FF19209"),
        ("127.0.0.1:5000", False, "FF19212"),
        ("10.0.0.1:5000", True, "FF19212"),
        ("example.com:5000", True, "FF19212"),
        ("nothing", True, "FF19212"),
        ("", True, "FF19212"),
    ],
)
def test_addresses_that_do_not(address: str, insecure: bool, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        checked_address(address, insecure=insecure)
    assert caught.value.code == code


def test_a_relative_path_is_dialled_absolutely() -> None:
    assert checked_address("unix:run/x.sock", insecure=False).startswith("unix:/")


@pytest.mark.parametrize(
    ("name", "instance"),
    [("blockchain0", "blockchain0"), ("my-ledger", "my-ledger")],
)
def test_a_name_that_fits_is_kept(name: str, instance: str) -> None:
    assert InstanceConfig(name, Category.BLOCKCHAIN).instance_name == instance


def test_names_that_do_not_fit_stay_different() -> None:
    names = ["A.b", "a_b", "a.b", "x" * 64, "x" * 63 + "y", "___"]
    made = {InstanceConfig(name, Category.BLOCKCHAIN).instance_name for name in names}
    assert len(made) == len(names)
    for instance in made:
        assert InstanceConfig(instance, Category.BLOCKCHAIN).instance_name == instance
