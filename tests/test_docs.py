"""README and guide: their links lead somewhere, their flags exist, and the README stays short."""

import pathlib
import re

import pytest

import sevi_jax

ROOT = pathlib.Path(sevi_jax.__file__).parents[1]
PAGES = sorted(ROOT.glob("docs/*.md"))


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_readme_is_short_and_names_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    missing = {page.name for page in PAGES if f"docs/{page.name}" not in text}
    assert missing <= {"index.md", "api.md"}


def test_every_page_is_in_the_table_of_contents():
    text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert {page.stem for page in PAGES} - set(text.split()) == {"index"}


def test_page_of_commands_has_the_flags_of_predict():
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    files = [ROOT / f"sevi_jax/{name}.py" for name in ("predict", "picture_flags")]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    flags = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', code)) | {"overwrite"}
    part = text.partition("\n## predict")[2].partition("\n## ")[0]
    named = set(re.findall(r"--(\w+)", part + text.partition("(predict)=")[0])) - {"help"}
    assert named == flags


def test_configurations_of_the_pages_exist():
    names = set()
    for page in (ROOT / "README.md", *PAGES):
        text = page.read_text(encoding="utf-8")
        names |= set(re.findall(r"--config=(?:configs/)?(\w+)", text))
    assert names >= {"quick", "laptop", "double34"}
    assert [name for name in names if not (ROOT / f"configs/{name}.py").exists()] == []


def test_scripts_of_the_pages_exist():
    named = set()
    for page in (ROOT / "README.md", *PAGES):
        text = page.read_text(encoding="utf-8")
        named |= set(re.findall(r"\bscripts/[\w/]+\.(?:py|sh)\b", text))
        modules = re.findall(r"-m (scripts(?:\.\w+)+)", text)
        named |= {name.replace(".", "/") + ".py" for name in modules}
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
