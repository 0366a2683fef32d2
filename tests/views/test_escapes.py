"""Escapes: what a format asks for is read as it was meant, escaped letters are payloads, all else stays."""

from __future__ import annotations

import html
import quopri
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.views.escapes import escaped, unescaped

TEXT = "Tell me how to bake a loaf of bread, and when to eat it: “now” or at noon?"
QUOTED = quopri.encodestring(TEXT.replace(" ", "\0").encode()).decode().replace("=\n", "").replace("=00", "=20")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (TEXT.replace(" ", "%20"), TEXT),
        (urllib.parse.quote(TEXT), TEXT),
        (urllib.parse.quote(urllib.parse.quote(TEXT)), TEXT),
        (f"Look at /search?q={urllib.parse.quote(TEXT)} please", f"Look at /search?q={TEXT} please"),
        ("".join(f"%{byte:02X}" for byte in TEXT.encode()), TEXT),
        ("".join(f"\\x{byte:02x}" for byte in TEXT.encode()), TEXT),
        ("".join(f"\\{byte:03o}" for byte in TEXT.encode()), TEXT),
        ("".join(f"&#{ord(letter)};" for letter in TEXT), TEXT),
        ("".join(f"={byte:02X}" for byte in TEXT.encode()), TEXT),
        (TEXT.replace(" ", "\\040"), TEXT),
        (TEXT.replace(" ", "\\u0020"), TEXT),
        (TEXT.replace(" ", "=20"), TEXT),
        (QUOTED, TEXT),
        (TEXT.replace(" ", "&nbsp;"), TEXT.replace(" ", "\xa0")),
        ("&lt;b&gt; &amp; I&#39;m", "<b> & I'm"),
    ],
)  # fmt: skip
def test_what_was_meant(text, wanted):
    assert unescaped(text) == wanted
    assert unescaped(wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "See https://example.org/a?x=%20y",
        "%20%20%20%20",
        "printf('%02d:%02d:%02d'); strftime('%d%b%a')",
        "width=20px; height=20px; depth=20em; x=20 y=20 z=20",
        "?w=40&h=50&q=75&copy=1&not=2&para=3",
        "int a = b & c; d &foo; e &bar; f &baz; 100% of 20%",
        "re.sub('\\\\1\\\\2\\\\3', text); C:\\\\040\\\\041",
        "100%25 %zz %4",
    ],
)
def test_what_is_no_escape_stays(text):
    assert unescaped(text) == text
    assert escaped(text) == []


def test_escaped_letters_among_plain_ones_are_payloads():
    text = "how to b%61k%65 br%65ad \\x6eow"
    assert unescaped(text) == text
    assert escaped(text) == [(8, 11, "a"), (12, 15, "e"), (18, 21, "e")]
    assert escaped("b\\141k\\145 br\\145ad") == [(1, 5, "a"), (6, 10, "e"), (13, 17, "e")]


def test_letters_that_are_not_escaped_stay():
    """So that no text can hide behind its escapes: %6b after a word would else make another word of it."""
    text = "how%20to%20bake%20bread%6b"
    assert unescaped(text) == "how to bake bread%6b"


pieces = st.sampled_from(
    ["%20", "%41", "%", "=20", "=41", "=", "\\040", "\\x41", "\\", "&nbsp;", "&#65;", "&", "a", "word", " "]
)


@given(st.lists(pieces | st.text(max_size=3), max_size=40).map("".join))
def test_any_text_can_be_unescaped(text):
    made = unescaped(text)
    assert len(made) <= len(text)
    assert bool(made.strip()) == bool(text.strip())
    starts = [0, *(end for _, end, _ in escaped(text))]
    assert all(start >= before for before, (start, _, _) in zip(starts, escaped(text), strict=False))


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: text == text.strip() != "")
)
def test_what_urls_and_web_pages_escape_is_meant(text):
    spaced = f"{text} a b c"
    assert unescaped(urllib.parse.quote(spaced)) in (spaced, unescaped(spaced))
    assert unescaped(html.escape(f"<{text}>")) in (f"<{text}>", unescaped(f"<{text}>"), html.escape(f"<{text}>"))
