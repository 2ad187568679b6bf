"""Text of pictures: letters that the usual font lacks, and signs of formulas."""

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from multimodal_ser.common import drawing
from multimodal_ser.common.drawing import canvas, png, svg, write_label

_GLYPH = "中"


def made_font(path):
    """A font with one letter, a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for place in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(place)
    pen.closePath()
    made = FontBuilder(1000, isTTF=True)
    made.setupGlyphOrder([".notdef", "square"])
    made.setupCharacterMap({ord(_GLYPH): "square"})
    made.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    made.setupHorizontalMetrics(dict.fromkeys((".notdef", "square"), (1000, 0)))
    made.setupHorizontalHeader(ascent=900, descent=-100)
    made.setupNameTable({"familyName": "Made Up", "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(path)
    return path


def drawn(text):
    figure, (ax,) = canvas(3, 1)
    ax.set_yticks([0.5], [text])
    write_label(ax, 0.2, 0.5, text)
    return figure


def test_letters_that_the_usual_font_lacks_are_drawn_in_one_that_has_them(
    tmp_path, monkeypatch, caplog, recwarn
):
    monkeypatch.setattr(drawing, "_told", set())
    drawing._fonts_with.cache_clear()
    empty = png(drawn("a龘"), "made")  # no font has it here, or one of the system does
    found = drawing._fonts_with(frozenset([ord("龘")]))[0]
    assert found or "pictures show boxes in place of 龘: no installed font" in caplog.text
    png(drawn("a龘"), "made")
    assert caplog.text.count("boxes") <= 1  # said once
    entries = [*font_manager.fontManager.ttflist]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries[:])
    font_manager.fontManager.addfont(made_font(tmp_path / "made.ttf"))
    drawing._fonts_with.cache_clear()
    caplog.clear()
    families, unknown = drawing._fonts_with(frozenset([ord(_GLYPH)]))
    assert families
    assert not unknown
    assert png(drawn(_GLYPH), "made") != empty
    assert not caplog.text
    assert not [one for one in recwarn if "Glyph" in str(one.message)]
    assert _GLYPH in svg(drawn(_GLYPH), "made")
    drawing._fonts_with.cache_clear()


def test_signs_of_dollar_are_no_formula():
    assert "a_$b$^{" in svg(drawn("a_$b$^{"), "made").replace("&#36;", "$")
    assert png(drawn("$x_$"), "made")


def test_figures_in_the_usual_letters_keep_their_font():
    made = svg(drawn("ärger"), "made")
    assert "var(--font)" in made
    assert "DejaVu" not in made
