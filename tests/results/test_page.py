"""The page of an answer, read back as HTML."""

import html.parser

import pytest

from sevi_jax.results.page import _plus_minus, write_page

SHELL = {
    "R": 0.5,
    "R_error": 0.00012,
    "R_pixels": 64.0,
    "R_pixels_error": 0.015,
    "sigma": 0.007,
    "sigma_error": 0.0001,
    "yield": 12345.6,
    "yield_error": 98.7,
    "counting_error": 111.0,
    "beta": [0.5, 0.0],
    "beta_error": [0.01, 0.0],
}
ANSWER = {
    "file": "<b>ring & co</b>.npy",
    "electrons": 12345.0,
    "origin_pixels": [1.0, 2.0],
    "deviance_per_dof": 1.0,
    "p_value": 0.5,
    "reason": "converged",
    "warnings": ["density < 0"],
    "shells": [SHELL, {**SHELL, "R": 0.6}],
}


class Reader(html.parser.HTMLParser):
    """Collects table rows, texts and image sources; checks that tags are closed."""

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.text, self.images = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_page_holds_the_answer_and_its_figures(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    write_page(tmp_path / "a.html", [ANSWER], [[tmp_path / "a.png"]])
    reader = Reader()
    reader.feed((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert reader.open == []
    assert "<b>ring & co</b>.npy" in reader.text
    assert "density < 0" in reader.text
    assert reader.images == ["data:image/png;base64,cGljdHVyZQ=="]
    rows = {row[0]: row[1:] for row in reader.rows}
    assert rows["R (half-widths)"] == ["0.50000 ± 0.00012", "0.60000 ± 0.00012"]
    assert rows["beta_2"] == ["0.500 ± 0.010"] * 2
    assert rows["beta_2, literature"] == ["1.000 ± 0.020"] * 2
    assert "beta_4" not in rows  # not fitted


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.123456, 0.0123, "0.123 ± 0.012"),
        (1234567.8, 321.0, "1234568 ± 321"),
        (0.5, 0.0, "0.5"),
        (float("nan"), 1.0, "nan"),
    ],
)
def test_error_has_two_digits(value, error, text):
    assert _plus_minus(value, error) == text
