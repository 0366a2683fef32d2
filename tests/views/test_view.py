"""Views: every disguise is seen through, ordinary text has none, and hostile input costs little."""

from __future__ import annotations

import base64
import codecs
import itertools
import random
import re
import time
import typing
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guard.evaluate.redteam.attacks import hyphenated, words_joined
from guard.views.confusables import latin
from guard.views.disguise import ALPHABETS, Disguise, encode, obfuscate
from guard.views.english import english, likeness
from guard.views.escapes import unescaped
from guard.views.folding import folded, hidden, ordinary
from guard.views.joining import joined
from guard.views.payloads import decoded
from guard.views.view import View, views

DISGUISES: tuple[Disguise, ...] = typing.get_args(Disguise)
TEXT = "Please tell me how to prune the rose hedge, and when."
OPENINGS = ["Please tell me how to", "What is the best way to", "Could you explain to a child how they", "I want to"]
DEEDS = [
    "prune a rose hedge",
    "bake bread with rye and honey",
    "mend the roof of my shed",
    "find a ferry to the island",
]
ENDS = ["?", " before the rain comes.", ", and when.", " without the help of my brother!"]
sentences = st.builds("".join, st.tuples(st.sampled_from(OPENINGS), st.just(" "), *map(st.sampled_from, (DEEDS, ENDS))))
seeds = st.integers(0, 2**32)
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
PLAIN = [
    TEXT,
    "It was a fine day in spring; we'd walked 12 miles by 3.30 pm, and spent $40 (or 35 €) on the way back.",
    "Is the B2B price for covid19 tests in 3D, or v1.0.2b of the H2O app? Ask W3C, R2D2 or the 2nd gate at 7pm.",
    "See https://example.org/a1b2/c3d4?x=%20y or write to jo3@example.org; file: /usr/share/doc/some-long-name.txt",
    "def total(i, j):\n    return i + j if i < j else x1 * 2",
    "A) yes B) no. U.S. and U.K. citizens, e.g. I, may enter - see p. 4.",
    "The hash is d41d8cd98f00b204e9800998ecf8427e, the id 123e4567-e89b-12d3-a456-426614174000.",
    'for f in "$directory"/*; do echo "$f" | wc -l; done  # $1 is the folder',
    "| Name | Age |\n|------|-----|\n| Ann | 31 |\n| Tom | 40 |",
    "1 2 3 4 5 6 7 8 9 10, 20 30 40 50 60 70 80 90",
    "A well-known, state-of-the-art re-read of my mother-in-law's responsibilities, by e-mail.",
    "getUserAccountNameFromDatabase(accountNumber) # see /usr/share/longfoldername/otherfoldername",
    "acetylsalicylicacid, counterintelligence, Donaudampfschifffahrtsgesellschaft",
    "YouTube, JavaScript, PowerPoint, GitHub and the iPhone; ask McDonald's or the YMCA about #Rosebushes",
    "class ConfigurationFileCouldNotBeLoaded(Error): raise NotADirectoryError from toTypeInferredValue",
    "testStorageIsEqual, getElementById, AutoModelForImageClassification, FirstTextureOfTheMesh(x)",
    "a*b + c**d, 2*pi*r, rate*time; **bold**, *italic* and __init__; is_even(read_s), driver`s",
    "<p>Some <b>bold</b> words<br>and <i>more</i></p> <!-- a note --> List<String> items = new Map<K, V>();",
    r"\section{Roses} Let $a$ be $x_{i}$ and \textbf{bold} \alpha{} in {braces}.",
    "f'{name}{size}' % (name,) == '%s: %d%%' and {'a': 1}['a']; width=20px; height=20px; x=41&y=42&z=43",
    "printf('%02d:%02d:%02d'); strftime('%Y-%m-%d'); C:\\101\\102; re.sub(r'\\1\\2', 'a')",
    "state|zip|city; usr/share/doc/python; one, two, three-four; red.green.blue",
    "Sooo good, yesss! Hmmm, aaah ... www, III, 1000",
    "",
    " \n\t ",
]
SCRIPTS = {
    "Russian": "Как правильно подрезать розы осенью? У нас в саду есть iPhone, а ещё Wi-Fi и IT-отдел.",
    "short Russian": "Сосед просит соль, а у нас её нет.",
    "Ukrainian": "Як обрізати троянди восени, якщо їх є багато?",
    "Greek": "Πώς κλαδεύω τις τριανταφυλλιές το φθινόπωρο; Το νερό και το φως.",
    "Armenian": "Ինչպե՞ս էտել վարդերը աշնանը",
    "Georgian": "როგორ გავსხლათ ვარდები შემოდგომაზე",
    "Hebrew": "אֵיךְ גּוֹזְמִים וְרָדִים בַּסְּתָו?",
    "Arabic": "كَيْفَ أُقَلِّمُ الوُرُودَ في الخَرِيفِ؟",
    "Persian": "می‌خواهم گل‌های رز را هرس کنم",
    "Hindi": "मैं गुलाब की छँटाई कैसे करूँ? क्‍या यह ठीक है",
    "Bengali": "আমি কীভাবে গোলাপ ছাঁটাই করব? র‍্যাব",
    "Thai": "ฉันจะตัดแต่งกุหลาบได้อย่างไร ทำน้ำ",
    "Khmer": "តើ\u200bខ្ញុំ\u200bកាត់\u200bផ្កា\u200bយ៉ាង\u200bដូចម្តេច",
    "Chinese": "我该怎样修剪玫瑰？（秋天，１２月）「好的」…",
    "Japanese": "バラの剪定はいつですか？ﾊﾞﾗ　１０本、葛\U000e0100飾区。",
    "Korean": "장미는 언제 가지치기를 하나요?",
    "Korean in parts": unicodedata.normalize("NFD", "장미는 언제 가지치기를 하나요?"),
    "Vietnamese": "Làm thế nào để tỉa hoa hồng vào mùa thu?",
    "Vietnamese in parts": unicodedata.normalize("NFD", "Làm thế nào để tỉa hoa hồng vào mùa thu?"),
    "Turkish": "Gülleri sonbaharda nasıl budarım? İyi mi, kötü mü?",
    "Polish": "Jak przyciąć róże jesienią, żeby nie zmarzły?",
    "Spanish": "¿Cómo podo los rosales en otoño? La 1ª vez, el nº 2.",
    "emoji": "Nice 👍🏽 ❤️ 👩‍👧‍👦 1️⃣ 🇩🇪🇫🇷 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f ™ ½ … x²",
    "symbols": "★★★ 5 of 5, 20 °C, © 2020 Acme®, Settings→Display, f: A→B, x∈A, p∧q∧r, x×y ≤ 3·z, £5 or 5€",
    "emoji alone": "😀🎉👍",
    "Braille": "⠅⠕⠅⠕⠎⠝⠳⠎ ⠃⠗⠪⠌",
    "symbols in Japanese": "楽しい♪ 東京→大阪、★おすすめ★",
}


def comparable(text: str) -> str:
    """A text less what makes no difference: case, white space and common typography."""
    return " ".join(ordinary(text).casefold().split())


def reads(text: str, *wanted: str) -> bool:
    """Whether all that is wanted is in the text or one of its views, up to case, space and typography."""
    found = [comparable(text), *(comparable(view.text) for view in views(text))]
    return all(any(comparable(one) in form for form in found) for one in wanted)


@given(sentences, st.sampled_from(DISGUISES), seeds)
def test_every_disguise_of_a_sentence_is_undone(text, disguise, seed):
    made = encode(text, disguise, random.Random(seed))
    assert reads(made, text), disguise


@pytest.mark.parametrize("disguise", [each for each in DISGUISES if each not in ("leet", "spacing", "rot13")])
def test_a_disguised_span_is_undone_in_its_place(disguise):
    for seed in range(40):
        assert reads(obfuscate(TEXT, disguise, random.Random(seed)), TEXT), seed


@pytest.mark.parametrize(("disguise", "least"), [("leet", 0.7), ("spacing", 0.7), ("rot13", 0.5)])
def test_most_spans_that_can_be_mistaken_are_undone(disguise, least):
    made = [obfuscate(TEXT, disguise, random.Random(seed)) for seed in range(60)]
    assert sum(reads(text, TEXT) for text in made) >= least * len(made)


@given(sentences)
def test_a_sentence_without_spaces_or_with_hyphens_in_its_words_is_undone(text):
    words = set(re.findall("[a-z]{3,}", text.lower()))
    for made in (words_joined(text), hyphenated(text)):
        (view,) = views(made)[-1:]
        lost = words - set(re.findall("[a-z]{3,}", view.text.lower()))
        assert 2 * len(lost) <= len(words), view.text  # "to prune a rose" without spaces is "top rune arose", too


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_every_look_alike_of_training_is_folded(alphabet):
    text = TEXT.translate({ord(letter): other for letter, other in ALPHABETS[alphabet].items()})
    assert text != TEXT
    assert folded(text) == TEXT


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_ascii_has_no_view(text):
    assert views(text) == ()


@pytest.mark.parametrize("language", SCRIPTS)
def test_ordinary_text_of_any_script_has_no_view(language):
    assert views(SCRIPTS[language]) == ()
    assert views(SCRIPTS[language] * 20) == ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tell me: hоw dо I рrune it", "tell me: how do I prune it"),
        ("ᴛʜᴇ 🅷🅴🅳🅶🅴 ⒤⒮ ⓉⒶⓁⓁ", "the hedge is tall"),
        ("h\u0336o\u0336w\u0336 t\u0336o\u0336", "how to"),
        ("h\u0300\u0301\u0302\u0303\u0304o\u0316\u0317\u0318w to", "how to"),
        ("pr\x08une the\x00 hedge", "prune the hedge"),
        ("п\u200bо\u200bд\u200bр\u200bе\u200bз\u200bа\u200bт\u200bь", "подрезать"),
        ("please p.r.u.n.e the h-e-d-g-e now", "please prune the hedge now"),
        ("h o w   t o   p r u n e", "how to prune"),
        ("п р и в е т, сад", "привет, сад"),
        ("how do I g3t a l4dd3r", "how do I get a ladder"),
        ("pr*u*n*e the l@dd3r and sh!p", "ladder"),
        ("do it: cHJ1bmUgdGhlIHJvc2UgaGVkZ2U", "do it: prune the rose hedge"),
        ("do it: OBZHK3TFEB2GQZJANBSWIZ3F", "do it: prune the hedge"),
        ("do it: 70 72 75 6e 65 20 74 68 65", "do it: prune the"),
        ("\\x70\\x72\\x75\\x6e\\x65 it", "prune it"),
        ("\\u0070\\u0072\\u0075\\u006e\\u0065 it", "prune it"),
        ("%70%72%75%6e%65 it", "prune it"),
        ("&#112;&#114;&#117;&#110;&#x65; it", "prune it"),
        ("01110000 01110010 01110101 01101110 01100101", "prune"),
        ("112 114 117 110 101 32 116 104 101 32 104 101 100 103 101", "prune the hedge"),
        ("HowdoIbakethebreadformywedding?", "How do I bake the bread for my wedding?"),
        ("Please tell me howtobakethebread now", "how to bake the bread now"),
        ("Pl-ease te-ll me how to re-move the hed-ge", "Please tell me how to remove the hedge"),
        ("?egdeh esor eht enurp I od woH", "How do I prune the rose hedge?"),
        ("¿ǝƃpǝɥ ǝsoɹ ǝɥʇ ǝunɹd I op ʍoH", "How do I prune the rose hedge?"),
        ("how😀to👍🏽prune👩\u200d👧the❤️rose🇩🇪hedge1️⃣now", "how to prune the rose hedge now"),
        ("how\u2800to\ufffdprune\ue000the✔rose★hedge", "how to prune the rose hedge"),
        ("how→to→prune→the→hedge", "how to prune the hedge"),
        ("prune💣 the hedge", "prune the hedge"),
        ("please ba★ke the bre\u2800ad", "please bake the bread"),
        ("p★l★e★a★s★e p★r★u★n★e", "please prune"),
        ("ho★w★to★ba★ke★the★bre★ad", "how to bake the bread"),
        ("I h❤️te to pr🌟se the garden", "I hate"),
        ("HowDoIPruneTheRoseHedge", "How Do I Prune The Rose Hedge"),
        ("howDoIPruneTheRoseHedge?", "how Do I Prune The Rose Hedge?"),
        ("#HowToPruneTheHedge", "How To Prune The Hedge"),
        ("they say #BakeTheBread today", "Bake The Bread"),
        ("HowDoI PruneThe RoseHedge AndWhen", "How Do I Prune The Rose Hedge And When"),
        ("how|to|prune|the|rose|hedge", "how to prune the rose hedge"),
        ("how+to+prune+the+rose+hedge", "how to prune the rose hedge"),
        ("b<b>ak</b>e the bre<!-- x -->ad", "bake the bread"),
        ("b**ak**e the b_rea_d", "bake the bread"),
        (r"b\textbf{ak}e the bre{}ad", "bake the bread"),
        ("ba&shy;ke the bre&zwj;ad", "bake the bread"),
        ("how to plant my g*rden", "plant my garden"),
        ("hooow tooo baaakeee theee breeeaaad", "how to bake the bread"),
        ("".join(f"\\{byte:03o}" for byte in b"prune it"), "prune it"),
        (" ".join(f"{byte:03o}" for byte in b"prune the rose hedge with me"), "prune the rose hedge"),
        ("say =70=72=75=6E=65=20it", "prune it"),
        (base64.b64encode("prune the hedge".encode("utf-16-le")).decode(), "prune the hedge"),
        (base64.b64encode(base64.b64encode(b"prune the rose hedge")).decode(), "prune the rose hedge"),
        (" ".join(base64.b64encode(b"prune the rose hedge").decode()), "prune the rose hedge"),
        ("".join(itertools.chain(*zip("nice day", "".join(chr(0xE0000 + ord(x)) for x in "prune it"), strict=True))),
         "prune it"),
        ("😀" + "".join(chr(0xFE00 + code if code < 16 else 0xE0100 + code - 16) for code in b"prune it"), "prune it"),
    ],
)  # fmt: skip
def test_other_disguises(text, wanted):
    assert comparable(wanted) not in comparable(text)
    assert reads(text, wanted)


def test_hidden_text_is_a_view_of_its_own_and_gone_from_the_folded_one():
    text = "What a d\u200bay!" + encode("prune it", "tags", random.Random(1))
    assert [(view.name, view.text) for view in views(text)] == [
        ("hidden", "What a day!prune it"),
        ("folded", "What a day!"),
    ]


def test_a_payload_says_where_it_stood():
    payload = base64.b64encode(b"prune the rose hedge").decode()
    alone, among = views(f"First this: {payload} and more")
    assert alone == View("decoded", "prune the rose hedge", 12, 12 + len(payload))
    assert among == View("decoded", "First this: prune the rose hedge and more", 12, 12 + len(payload))
    assert "prune" not in repr((alone, among, decoded(payload)))


def test_a_payload_is_read_in_its_lines_and_in_a_long_text_in_all_of_it():
    payload = base64.b64encode(b"prune the rose hedge").decode()
    lines = f"Decode what follows.\nFirst this: {payload}\nand then {payload}.\nThank you."
    read = "First this: prune the rose hedge\nand then prune the rose hedge."
    assert [view.text for view in views(lines)] == [read[12:-1], read]
    far = "A quiet morning by the sea.\n" * 100
    assert [view.text for view in views(far + lines)][-1] == far + lines.replace(payload, "prune the rose hedge")


def test_no_decoy_keeps_another_disguise_from_being_read():
    """A disguise of every kind, each on a line of its own, so that no view holds two of them."""
    payload, decoy = (base64.b64encode(text).decode() for text in (b"feed the garden birds", b"see the boats"))
    lines = {
        "prune the rose hedge": "\u0440run\u0435 th\u0435 r\u043es\u0435 h\u0435dg\u0435",
        "feed the garden birds": payload,
        "mend the roof": encode("mend the roof", "tags", random.Random(1)),
        "how do I get a ladder": "how do I g3t a l4dd3r",
    }
    for chosen in itertools.chain.from_iterable(itertools.combinations(lines, size) for size in range(1, 5)):
        for times in (1, 30, 300):
            text = "\n".join([lines[one] for one in chosen] + ["a calm sea, and nothing else"] * times)
            assert reads(text, *chosen), (chosen, times)
            grown = f"{text}\n{'㏂㎯ ' * 200}"  # signs whose plain forms are longer, so that there is less room
            assert reads(grown, *chosen), (chosen, times)
    assert reads(
        f"{lines['mend the roof']}{encode(decoy, 'tags', random.Random(1))}\n{payload}", "feed the garden birds"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Está en la naturaleza de los gatos dormir.",
        "È nella natura dei gatti essere curiosi.",
        "Está na natureza dos gatos dormir.",
        "sabhi bacche poori tarah khush hain aur garmi mein khelte hain.",
        "no no no no no no no no no",
    ],
)
def test_other_languages_are_not_english_backwards(text):
    assert views(text) == ()


def test_a_hexadecimal_payload_is_read_only_so_deep():
    text = "prune the rose hedge"
    for depth in range(1, 5):
        text = text.encode().hex()
        assert reads(text, "prune the rose hedge") == (depth <= 2)


@given(anything)
@example("\ufdfa" * 50)
@example("\u1100\u1161\u11a8" * 9)
@example("\U000e007f\U0001f3f4\ufe0f\u20e3")
def test_any_text_has_few_different_views(text):
    found = views(text)
    forms = [comparable(text), *(" ".join(view.text.casefold().split()) for view in found)]
    assert len(set(forms)) == len(forms)
    assert len(found) <= 4
    assert sum(len(view.text) for view in found) <= 2 * len(text) + 2000
    assert all(view.text.strip() and 0 <= view.start <= view.end <= len(text) for view in found)
    assert views(text) == found


@given(anything)
def test_steps_are_settled_after_once(text):
    assert ordinary(ordinary(text)) == ordinary(text) or len(ordinary(text)) < len(text)
    assert folded(folded(text)).casefold() == folded(text).casefold() or not folded(text).isascii()
    assert not any(unicodedata.category(letter) == "Cf" and letter.isprintable() for letter in folded(text))
    assert isinstance(hidden(text), str)
    found = decoded(text)
    if found is not None:
        assert len(found.text) <= len(text)
        assert found.text.startswith(text[: found.before])
        assert found.text.endswith(text[len(text) - found.after :])


@given(st.text(st.characters(max_codepoint=127), max_size=300))
def test_steps_on_ascii(text):
    assert ordinary(text) == text
    assert latin(text) == text
    assert hidden(text) == ""
    assert len(joined(text)) <= len(text)


def test_likeness_tells_english_from_letters():
    assert likeness(TEXT) > 0.6
    assert likeness(codecs.encode(TEXT, "rot13")) < 0.35
    assert english(TEXT)
    assert not english(TEXT[::-1])
    assert not english(SCRIPTS["Polish"])
    assert not english("")


SIZE = 32_000
HOSTILE = {
    "base64 alphabet": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "payloads": "QUJDREVGR0hJSktMTU5P ",
    "lines": "QUJDREVGR0hJSktMTU5P\n",
    "one letter": "q",
    "one word of two alphabets": "aа",
    "spaces": " ",
    "dashes": "-",
    "exclamations": "!",
    "zero width": "\u200b",
    "between letters": "a\u200b",
    "selectors": "\ufe0f",
    "tags": "\U000e0041",
    "interleaved": "a\U000e0041",
    "flags": "\U0001f3f4\U000e0067",
    "families": "👩\u200d👧",
    "marks": "\u0315\u0300",
    "Hebrew marks": "\u0591\u05b0\u05b1",
    "long forms": "\ufdfa",
    "spaced": "a ",
    "short runs": "a b c  ",
    "addresses": "a@",
    "leet": "b0mb5 ",
    "pairs": "61 62 63 6z ",
    "digits": "12 ",
    "bits": "01",
    "escapes": "%41",
    "entities": "&#104;",
    "rot13": "gur naq ",
    "backwards": " eht dna gni",
    "Cyrillic": "а ",
    "mixed": "аa ",
    "mixed three": "aаα",
    "emoji": "😀",
    "emoji after letters": "a😀",
    "emoji for spaces": "tell😀me😀",
    "keycaps": "a1\ufe0f\u20e3",
    "blanks": "\u2800",
    "private use": "\ue000a",
    "arrows": "a→",
    "capitals": "aB",
    "capitals quoted": "aB'",
    "tags of HTML": "a<b",
    "comments": "a<!--",
    "stars": "a*",
    "censored": "b*mb ",
    "commands": "a\\b{",
    "dollars": "a$",
    "percent spaces": "a%20",
    "percent of percent": "%25",
    "quoted printable": "a=20b",
    "octal": "\\141",
    "ampersands": "&a",
    "blank entities": "&nbsp;",
    "lists": "how|to|",
    "threes": "aaab",
    "threes of threes": "aaabbbcccddd ",
    "turned": "ɐ",
    "turned lines": "ɐ\n",
    "Morse": ".- -... / ",
    "Braille": "⠁⠃ ",
    "indicators": "🇦🇧🇨 ",
    "numbers of letters": "1-2-3 ",
    "keys": "44 666 ",
    "radio": "alfa echo tango ",
    "radio with hyphens": "alfa-echo-X-RAY-tango-ſierra-",
    "a and b": "ababa ",
    "strange words": "xqzvk wjqpf ",
    "strange word pieces": "xq zv k* ",
    "Base85": "a{|}~!b%^&*(c",
    "leet of many signs": "|-|3|_|_0 ",
    "literals": "'ab' + ",
    "lists of literals": "['a', 'b', 'c', 'd', 'e', ",
    "variables": "a = 'b'; ",
    "many variables": "".join(f"a{number} = 'b'; " for number in range(20)) + "a! " * 60,
    "sums": "a = 'b'; c = 'd'; a + c + ",
    "fancy": "卩乇",
    "letters on lines": "a b\n",
    "without vowels": "wrd strng ",
    "stars for vowels": "w*rd str*ng ",
    "comments in C": "a/*b*/",
    "tags around letters": "<b>a</b>",
    "punycode": "xn--a-b ",
    "uuencoded": "begin 644 a\n`\n",
    "calls": "chr(97)+",
}


def timed(text):
    """The views, and the seconds of the processor that they took."""
    started = time.process_time()
    found = views(unescaped(text))
    return found, time.process_time() - started


def seconds(text):
    """The least of two: what else the machine does only adds."""
    return min(timed(text)[1] for _ in range(2))


@pytest.mark.parametrize("name", HOSTILE)
def test_time_is_linear(name):
    unit = HOSTILE[name]
    small, large = (unit * (size // len(unit)) for size in (SIZE // 8, SIZE))
    limit = 24 * seconds(small) + 0.01  # 8 times, with room for caches; one quadratic step makes it 64
    found, taken = timed(large)
    assert taken < limit or timed(large)[1] < limit
    assert sum(len(view.text) for view in found) <= 2 * SIZE + 2000


def test_nested_payloads_cost_no_more_than_their_depth():
    text = "prune"
    while len(text) < SIZE:
        text = base64.b64encode(text.encode()).decode()
    payload = base64.b64encode(b"prune " * (len(text) // 8)).decode()  # as long, and of depth one
    assert len(views(text)[-1].text) > SIZE // 4
    assert seconds(text) < 8 * seconds(payload) + 0.01


@settings(max_examples=20)
@given(st.lists(st.sampled_from([*HOSTILE.values(), TEXT, *SCRIPTS.values()]), max_size=8), st.integers(1, 50))
def test_mixtures_of_hostile_text_stay_bounded(units, times):
    text = "".join(unit * times for unit in units)
    assert sum(len(view.text) for view in views(text)) <= 2 * len(text) + 2000
