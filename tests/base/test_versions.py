"""The versions in manifests are those that are installed."""

import platform
from importlib.metadata import version

from prefmill.base.versions import package_versions


def test_versions_are_the_installed_ones_and_missing_packages_are_left_out(monkeypatch):
    monkeypatch.setattr("prefmill.base.versions.PACKAGES", ("pyarrow", "no-such-package-at-all"))
    assert package_versions() == {"python": platform.python_version(), "pyarrow": version("pyarrow")}
