"""The report of workdirs: one HTML file that holds their numbers, whatever their names, and whatever is missing."""

import json
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

import gil_jax
from gil_jax.cli import main
from gil_jax.evaluation.measures import headline
from gil_jax.report import make_report, report_of_training
from gil_jax.report.blocks import name, visible
from gil_jax.report.context import open_context
from gil_jax.report.embed import draw_people
from gil_jax.train_loop import train_and_evaluate
from tests.report_workdirs import PEOPLE, draw_table, make_workdir

BROKEN = "could not be made"  # of a section that raised an error nobody expected
HOSTILE = (
    '<script>alert("1")</script>',
    "a'b\"c&amp;",
    "\U0001f6b6\u200d\u2640\ufe0f walker",
    "\u202eabc \u05d0\u05d1",
    "$x_1$ \x07",
)


class Page(HTMLParser):
    """Tables of a page by their caption, ids, sections, and elements that could load something."""

    def __init__(self, path):
        super().__init__()
        self.tables, self.ids, self.tags, self.loads, self._cell, self._open = {}, [], [], [], None, []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data") and v[:1] != "#"]
        if tag == "table":
            self._open.append([])
        elif tag in ("tr", "caption") and self._open:
            self._open[-1].append([])
        if tag in ("td", "th", "caption"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th", "caption"):
            self._open[-1][-1].append(self._cell.strip())
            self._cell = None
        elif tag == "table":
            (caption,), *rows = self._open.pop()
            self.tables[caption] = rows

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("runs") / "two", noise=1.0)


@pytest.fixture(scope="module")
def page(workdir):
    return Page(make_report([workdir]))


def _report(workdir):
    (path,) = (workdir / "eval").glob("*.json")
    return json.loads(path.read_text())


def _as_numbers(row):
    return [float("nan") if cell in ("\u2013", "") else float(cell) for cell in row]


def test_the_tables_hold_the_numbers_of_the_evaluation(page, workdir):
    report = _report(workdir)
    means = page.tables["Rank-1 in percent, means"][1:]
    others = page.tables["Other measures, in percent"][1:]
    assert [row[0] for row in means] == ["NM", "BG", "CL"]
    for place, probe_set in enumerate(("NM", "BG", "CL")):
        summary = report["rank1"][probe_set]
        expected = [summary["excluding_identical_view"], summary["including_identical_view"]]
        expected += [*report["confidence"][probe_set], headline(report["baseline_gei"][probe_set])]
        np.testing.assert_allclose(_as_numbers(means[place][1:6]), expected, atol=0.0051)
        assert means[place][6] == "\u2013"
        expected = [headline(report[m][probe_set]) for m in ("rank1_all", "rank1_with_gallery", "rank5", "rank10")]
        np.testing.assert_allclose(_as_numbers(others[place][1:5]), expected, atol=0.0051)
        np.testing.assert_allclose(float(others[place][8]), report["verification"][probe_set]["eer"], atol=0.0051)
        heat = page.tables[f"{probe_set}: rank-1 (%) by probe view (lines) and gallery view (columns)"]
        np.testing.assert_allclose([_as_numbers(r[1:]) for r in heat[1:]], summary["matrix"], atol=0.051)
    (by_view,) = (rows for caption, rows in page.tables.items() if caption.startswith("Rank-1 (%) on synthetic"))
    np.testing.assert_allclose(_as_numbers(by_view[1][2:5]), report["rank1"]["NM"]["by_probe_view"], atol=0.051)


def test_the_page_is_whole_and_loads_nothing(page):
    assert BROKEN not in page.text
    assert 50_000 < len(page.text) < 1_000_000
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    without_names = page.text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|//[\w-]+\.|@import|url\((?!#)", without_names)
    assert len(page.ids) == len(set(page.ids))
    assert not [tag for tag, attributes in page.tags if "style" in attributes or any(a[:2] == "on" for a in attributes)]
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page.text))
    assert referred <= set(page.ids)
    for title in ("Tables", "View by view", "Curves", "Distances of pairs", "Training", "What was run"):
        assert f">{title}</h2>" in page.text
    assert "Content-Security-Policy" in page.text


def test_every_figure_has_words_above_it_and_a_name_for_screen_readers(page):
    pictures = [attributes for tag, attributes in page.tags if attributes.get("class") == "plot"]
    assert len(pictures) >= 12
    for attributes in pictures:
        assert attributes["role"] == "img"
        assert re.search(r"\d", attributes["aria-label"])
    figures = page.text.split("<figure ")[1:]
    assert all(re.search(r'<h[34]>.+</h[34]>.*<p class="finding">.*\d', figure, re.DOTALL) for figure in figures)
    for svg in re.findall(r"<svg xmlns.*?</svg>", page.text, re.DOTALL):
        ET.fromstring(svg)


def test_the_same_workdir_gives_the_same_page(workdir, page, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    assert make_report([workdir], tmp_path / "again.html").read_text(encoding="utf-8") == page.text
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_several_runs_are_compared_probe_by_probe(workdir, other, tmp_path, capsys):
    out = tmp_path / "both.html"
    assert main(["report", str(workdir), str(other), f"--out={out}"]) == 0
    assert str(out) in capsys.readouterr().out
    page = Page(out)
    assert BROKEN not in page.text
    differences = page.tables["Rank-1 (%) of one and of two, and their difference"][1:]
    files = [next((folder / "eval").glob("*.npz")) for folder in (workdir, other)]
    expected = gil_jax.compare(*files)
    for row in differences:
        pair = expected[row[0]]
        numbers = [pair["first"], pair["second"], pair["difference"], *pair["interval"]]
        np.testing.assert_allclose(_as_numbers(row[1:6]), numbers, atol=0.0051)
        assert (row[6] == "clear") == (not pair["interval"][0] <= 0 <= pair["interval"][1])
    squares = page.tables["Lookups that one and two get right"][1:]
    for row in squares:
        both, first, second, neither = map(int, row[1:])
        assert both + first + second + neither == 6 * 3 * 2
        # Every cell counts as many lookups, so that shares of lookups are the rank-1.
        assert 100 * (both + first) / 36 == pytest.approx(expected[row[0]]["first"], abs=0.01)
        assert 100 * (both + second) / 36 == pytest.approx(expected[row[0]]["second"], abs=0.01)
    assert "The configs of these runs are the same in every field." in page.text


def test_runs_that_can_not_be_compared_say_why(workdir, tmp_path):
    elsewhere = make_workdir(tmp_path / "elsewhere", people=PEOPLE[:4], keep=False)
    text = make_report([workdir, elsewhere], tmp_path / "r.html").read_text(encoding="utf-8")
    assert BROKEN not in text
    assert "are not compared: The embeddings of this evaluation were not kept" in text
    assert f"--mode=eval --workdir={elsewhere}" in text


@pytest.mark.filterwarnings("error")
def test_names_are_text_whatever_they_hold(tmp_path):
    folder = make_workdir(tmp_path / "<b>run</b> $a$", people=HOSTILE, views=HOSTILE[:3], name="<i>data</i>")
    path = next((folder / "eval").glob("*.json"))
    report = json.loads(path.read_text())
    for values in report.values():
        if isinstance(values, dict):
            values["<u>$NM$</u>"] = values.pop("NM")
    report["warnings"] = ["<img src=x onerror=alert(1)>"]
    path.write_text(json.dumps(report))
    page = Page(make_report([folder]))
    assert BROKEN not in page.text
    assert not {tag for tag, _ in page.tags} & {"b", "i", "u"}
    assert not [attributes for tag, attributes in page.tags if tag == "img" and "onerror" in attributes]
    scripts = [attributes.get("type") for tag, attributes in page.tags if tag == "script"]
    assert scripts.count(None) == 1
    assert set(scripts) <= {None, "application/json"}
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert "<bdi>&lt;u&gt;$NM$&lt;/u&gt;</bdi>" in page.text
    assert any("<u>$NM$</u>: rank-1" in caption for caption in page.tables)
    assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
    assert "\x07" not in page.text
    assert "$x_1$ \\x07" in page.text
    assert name('"<') == "<bdi>&#34;&lt;</bdi>"
    assert visible("a\ud800\ufffe\tb") == "a\\ud800\\ufffe\\tb"


def test_what_is_missing_is_said(tmp_path, capsys):
    bare = tmp_path / "bare"
    make_workdir(bare)
    for path in (bare / "eval").iterdir():
        path.unlink()
    (bare / "data.json").unlink()
    (bare / "run.json").write_text("{")
    (bare / "metrics.jsonl").write_text(
        '{"step": 1, "loss": null}\n{"step"\n[]\n{"step": 2, "loss": null, "odd": "x"}\n{"st'
    )
    text = make_report([bare]).read_text(encoding="utf-8")
    assert BROKEN not in text
    assert "holds no evaluation" in text
    assert "2 lines can&#39;t be read and are left out" in text
    assert "run.json is damaged" in text
    assert "loss: not finite at any step" in re.sub("</?bdi>", "", text)
    for people, views in ((PEOPLE[:1], ("000", "090")), (PEOPLE, ("090",)), (PEOPLE[:1], ("090",))):
        folder = make_workdir(tmp_path / f"{len(people)}-{len(views)}", people=people, views=views)
        text = make_report([folder]).read_text(encoding="utf-8")
        assert BROKEN not in text
        assert ("there are no pairs of both kinds" in text) == (len(people) == 1)
        assert ("there is a single view" in text) == (len(views) == 1)
    path = next((folder / "eval").glob("*.json"))
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()))))
    text = make_report([folder]).read_text(encoding="utf-8")
    assert "is damaged" in text
    capsys.readouterr()
    for wrong, message in (
        ([str(tmp_path / "none")], "no such folder"),
        ([str(tmp_path)], "is no workdir"),
        ([str(bare), str(bare)], "the same workdir is given twice"),
        ([str(bare), "--step=7"], "has no evaluation of step 7 (there are: none)"),
        ([str(bare), f"--out={tmp_path}"], "is a folder"),
    ):
        assert main(["report", *wrong]) == 1
        assert message in capsys.readouterr().err


def test_a_training_ends_with_its_report_and_keeps_its_embeddings(tiny_config, tmp_path, capsys, monkeypatch):
    tiny_config.train.update({"report": True, "steps": 2})
    report = train_and_evaluate(tiny_config, str(tmp_path))
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert BROKEN not in text
    assert "report.html" not in text
    held = tmp_path / "eval" / "synthetic-first_5-casia_b-euclidean-2.npz"
    run = open_context([tmp_path]).runs[0]
    assert run.embeddings.about["network"] == gil_jax.load(tmp_path).fingerprint
    assert run.source.fingerprint == run.embeddings.about["data"]
    assert gil_jax.evaluate(held)["rank1"] == report["rank1"]
    # Going on, the embeddings of the later step take their place; a report that fails is a warning.
    tiny_config.train.steps = 4
    monkeypatch.setattr("gil_jax.report.page.render", lambda *_: 1 / 0)
    train_and_evaluate(tiny_config, str(tmp_path))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("warning: the report is left out: division by zero")
    assert [path.name for path in (tmp_path / "eval").glob("*.npz")] == [held.name.replace("-2.", "-4.")]
    # Not kept, they are computed again.
    kept, again = (open_context([tmp_path]).runs[0] for _ in range(2))
    table, network = kept.embeddings.table, kept.embeddings.about["network"]
    (tmp_path / "eval" / held.name.replace("-2.", "-4.")).unlink()
    assert again.embeddings.about["network"] == network
    assert again.embeddings.table.views.tolist() == table.views.tolist()
    np.testing.assert_allclose(again.embeddings.table.embeddings, table.embeddings, rtol=1e-4, atol=1e-6)


def test_without_the_extra_it_is_named(workdir, tmp_path, capsys, monkeypatch):
    for module in ("page", "svg"):
        monkeypatch.delitem(sys.modules, f"gil_jax.report.{module}")
        monkeypatch.delattr(gil_jax.report, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(workdir), f"--out={tmp_path / 'r.html'}"]) == 1
    assert "the report needs matplotlib: pip install -e .[report]" in capsys.readouterr().err
    said = []
    report_of_training(str(workdir), said.append)
    assert said[0].startswith("warning: the report is left out: the report needs matplotlib")
    assert not list(tmp_path.iterdir())


def test_a_gallery_of_all_views_has_one_column(tmp_path):
    folder = make_workdir(tmp_path / "w", keep=False)
    path = next((folder / "eval").glob("*.json"))
    report = json.loads(path.read_text())
    for place, probe_set in enumerate(report["rank1"]):
        report["rank1"][probe_set]["matrix"] = [[[50.0], [60.0], [100.0]], [[70.0]], []][place]
    path.write_text(json.dumps(report))
    page = Page(make_report([folder], embeds=False))
    assert BROKEN not in page.text
    (heat,) = (rows for caption, rows in page.tables.items() if "gallery view (columns)" in caption)
    assert heat == [["probe", "all views"], ["000", "50.0"], ["036", "60.0"], ["090", "100"]]


def test_people_are_drawn_whole():
    table = draw_table(PEOPLE, ("000", "090"), 0.1)
    rows = draw_people(table.subjects, np.arange(len(table.subjects)), 25)
    assert len(rows) == 20
    assert len(set(table.subjects[rows].tolist())) == 2
    assert len(draw_people(table.subjects, np.arange(len(table.subjects)), 1)) == 10
