"""The revision that is named is that of the program's own source."""

import subprocess

import pytest

from sevi_jax import provenance


def git(folder, *args):
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    line = ["git", "-C", str(folder), *names, *args]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def revision(tmp_path, monkeypatch):
    """`revision` of a package in a new repository, without what is remembered."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    return provenance.revision.__wrapped__


def test_revision_of_a_checkout_and_whether_it_was_changed(tmp_path, revision):
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert revision() == commit
    (tmp_path / "new").touch()
    assert revision() == commit
    (tmp_path / "package/__init__.py").write_text("a = 2\n")
    assert revision() == f"{commit}-dirty"


def test_no_revision_of_somebody_elses_repository_or_without_git(tmp_path, revision, monkeypatch):
    (tmp_path / "theirs").touch()
    git(tmp_path, "add", "theirs")
    git(tmp_path, "commit", "-qm", "first")
    assert revision() is None
    monkeypatch.setenv("PATH", "")
    assert revision() is None


def test_variables_of_a_git_hook_do_not_mislead(tmp_path, revision, monkeypatch):
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert revision() == commit
