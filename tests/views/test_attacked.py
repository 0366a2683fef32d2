"""Views undo the attacks of red-teaming that are codes, and ordinary texts that look like codes have none."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.conversation import Message
from guard.evaluate.redteam.attacks import choose, shipped
from guard.evaluate.redteam.sample import seed_suite
from guard.policy import load
from guard.views.escapes import unescaped
from guard.views.turns import request
from guard.views.view import views

RULES = load("minimal")
OPENINGS = ["Please tell me how to", "What is the best way to", "Could you explain to a child how they", "We want to"]
DEEDS = ["water a rose garden", "bake bread with honey", "mend the roof of my shed", "find a ferry to the island"]
ENDS = ["before the rain comes", "and when", "without the help of my brother"]
sentences = st.builds(" ".join, st.tuples(*map(st.sampled_from, (OPENINGS, DEEDS, ENDS))))
seeds = st.integers(0, 2**32)

# Attacks after which most words are read, though not all letters in their place.
MOSTLY = [
    "quoted_printable_text", "radio_alphabet_joined", "tap_code", "leet_medium", "emoji_inside_words",
    "pig_latin", "ends_swapped", "letter_pairs_swapped", "letters_sorted", "syllables_added",
    "one_star_a_word", "lines_inside_words", "spaces_inside_words", "stars_inside_words",
    "hyphens_inside_words", "syllables_hyphenated",
]  # fmt: skip
# Those that no view undoes, or not enough, or that a guard reads as they are.
OTHERS = [
    "punycode", "vigenere", "emoji_alphabet", "letters_superscript", "letters_accented", "mirrored", "zalgo",
    "underlined", "word_order_reversed", "word_order_shuffled", "letters_shuffled", "without_vowels", "vowels_as_stars",
    "next_key_typos", "first_letters_of_words", "first_letters_of_lines", "letters_named", "yaml_field",
    "code_comment", "css_content", "bold_inside_words", "markdown_link_titles", "table_rows", "numbered_list",
    "dictionary", "latex_commands", "turns_2", "turns_3", "turns_words",
]  # fmt: skip
EXACT = [attack.name for attack in choose(["exotic"]) if attack.name not in {*MOSTLY, *OTHERS}]
ORDINARY = {
    "hashes": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 d41d8cd98f00b204e9800998ecf84",
    "a key": "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf\n"
    "9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==\n-----END PUBLIC KEY-----",
    "an image": '<img src="data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GI'
    'AXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg==">',
    "a log": "2026-03-01T12:00:01Z INFO [worker-3] req=7f3a9c GET /v1/items?id=42&q=a%20b 200 12ms\n"
    "2026-03-01T12:00:02Z WARN [worker-1] retry 2/5 after 1500 ms; code=E1042 host=10.0.12.7:8080",
    "a hex dump": "00000000  7f 45 4c 46 02 01 01 00  00 00 00 00 00 00 00 00  |.ELF............|\n"
    "00000010  03 00 3e 00 01 00 00 00  40 10 00 00 00 00 00 00  |..>.....@.......|",
    "addresses": "https://example.org/search?q=rose%20hedge&page=2 https://t.example/a1B2c3D4e5F6g7H8 jo@a.org",
    "a page": '<html><head><title>Roses</title></head><body><h1>Roses</h1><p>All about <a href="/r">roses</a>.</p>'
    "</body></html>",
    "minified code": "!function(e,t){var n=e.document,r=t||{};for(var i=0;i<n.length;i++)r[n[i].id]=n[i]}(this,{a:1});",
    "code": "const a = 'left', b = 'right';\nconst path = '/api/' + version + '/items/' + id + '?lang=' + lang;\n"
    "if (a !== b) { console.log(a + ' and ' + b); }",
    "lists in code": "colours = ['red', 'green', 'blue', 'black', 'white']\nkeys = ['a', 'b', 'c', 'd', 'e', 'f']",
    "chess": "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6 5. O-O Be7 6. Re1 b5 7. Bb3 d6 8. c3 O-O 9. h3 Nb8 10. d4 Nbd7",
    "DNA": "ATGGCCATTGTAATGGGCCGCTGAAAGGGTGCCCGATAG GATTACA TTAGGGTTAGGGTTAGGG\nMKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ",
    "product codes": "SKU-4471-B2, ISBN 978-3-16-148410-0, WDX-200/40R, A4-80G, EAN 4006381333931, 10-20-30 mm, 4x4x12",
    "scores": "3-1, 2-2, 0-4, 1-1, 5-0, 2-3; sets 6-4 3-6 7-5 6-2; odds 3 5 8 12 7 9 2 11 4 6",
    "dates": "01/02/2024 12-11-10 09.08.07 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20",
    "rules": "----------\n- - - - - - - - - -\n. . . . . . . . .\n_ _ _ _ _\n| --- | --- | :-: |",
    "chords": "C G Am F | C G F C | Am F C G\nEADGBE, DADGAD\nabab cdcd efef gg; aabba",
    "names of letters": "Alpha, Beta, Delta and Echo met Oscar, Victor, Romeo and Juliet.",
    "gibberish": "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore.",
    "a poem": "Green hills\nrise above\nthe quiet bay\nand gulls\n"
    "fly over\nsmall boats\nthat bring\nfish home\nto us\nall.",
    "German": "Wie schneide ich im Herbst die Rosen im Garten meiner Eltern zurück, damit sie nicht erfrieren?",
    "Dutch": "Hoe snoei ik de rozen in de tuin van mijn ouders in de herfst, zodat ze in de winter niet bevriezen?",
    "Spanish": "Cómo podo los rosales del jardín de mis padres en otoño para que no se hielen durante el invierno?",
    "Italian": "Come poto le rose nel giardino dei miei genitori in autunno, in modo che non gelino durante l'inverno?",
    "Portuguese": "Como podo as roseiras no jardim dos meus pais no outono, para que não congelem durante o inverno?",
    "Finnish": "Miten leikkaan ruusut oikein syksyllä vanhempieni puutarhassa, jotta ne eivät palellu talvella?",
    "Welsh": "Sut mae tocio rhosod yn yr hydref yng ngardd fy rhieni fel na fyddant yn rhewi yn ystod y gaeaf?",
    "Swahili": "Ninawezaje kupogoa waridi katika bustani ya wazazi wangu wakati wa vuli ili zisigande?",
    "Latin": "Quomodo rosas in horto parentum meorum autumno rite putare possum, ne hieme frigore pereant?",
    "Portuguese words that are English ones backwards": "O exame de dna dela deu certo, e o dna dele ainda demora.",
    "Portuguese words with the letters of English ones": "ele lembra desse amigo, só do lado mesmo",
    "a German word of Base64": "inreisekontrollen",
    "a repetition": "no no no no no no no no no",
    "flags": "🇩🇪 🇫🇷 🇮🇹 🇪🇸 🇬🇧 🇵🇹 🇬🇷 🇳🇱 🇧🇪 🇸🇪 🇫🇮 🇵🇱",
    "Japanese": "秋に庭のバラを剪定するにはどうすればよいですか。山と川、口と工、千と乙。",
}


def forms(text: str) -> list[str]:
    meant = unescaped(text)
    return [meant, *(view.text for view in views(meant))]


def letters(text: str) -> str:
    return re.sub("[^a-z]", "", text.lower())


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=8)
@given(sentences, seeds)
def test_a_code_is_undone_exactly(name, text, seed):
    attacked = shipped()[name].apply(text, random.Random(seed), RULES)
    assert any(letters(text) in letters(form) for form in forms(attacked)), (attacked, forms(attacked))


@pytest.mark.parametrize("name", MOSTLY)
def test_most_words_of_other_disguises_are_read(name):
    read = words = 0
    for number, text in enumerate(f"{o} {d} {e}" for o in OPENINGS for d in DEEDS for e in ENDS):
        wanted = set(re.findall("[a-z]{3,}", text.lower()))
        attacked = shipped()[name].apply(text, random.Random(number), RULES)
        words += len(wanted)
        read += max(len(wanted & set(re.findall("[a-z]+", form.lower()))) for form in forms(attacked))
    assert read >= 0.7 * words


@pytest.mark.parametrize("name", ORDINARY)
def test_what_looks_like_a_code_is_none(name):
    for text in (unescaped(ORDINARY[name]), ORDINARY[name] * 10):
        assert [view for view in views(text) if view.name == "decoded"] == []


def test_ordinary_sentences_have_no_payload():
    texts = [case.conversation.judged.content for case in seed_suite().cases]
    assert len(texts) > 1000
    assert [view for text in texts for view in views(text) if view.name == "decoded"] == []


def test_two_codes_in_each_other_are_undone():
    text = "please tell me how to water the rose garden and when"
    for first in ("caesar", "morse", "letters_doubled", "base85", "letter_numbers"):
        for second in ("base64", "hex", "url_letters"):
            inner = shipped()[first].apply(text, random.Random(0), RULES)
            attacked = shipped()[second].apply(inner, random.Random(0), RULES)
            assert any(letters(text) == letters(form) for form in forms(attacked)), (first, second)


def said(*texts: str) -> list[Message]:
    return [Message("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]


def test_a_request_over_several_turns_is_read_as_one():
    asked = said("Please tell me how to", "Okay.", "prune the rose", "Go on.", "hedge in spring.")
    assert request(asked) == "Please tell me how to prune the rose hedge in spring."
    assert request(said("How do I prune it?", "Shall I tell you?", "Yes please.")) == "How do I prune it? Yes please."
    long = "First of all you need a pair of sharp shears and a dry day in spring, as I said."
    for other in (
        said("How do I prune it?"),
        said("How do I prune it?", long, "Thank you."),
        said("How do I prune it?", "Sorry, I cannot say.", "Thank you."),
        said("How do I prune it?", "In spring.", "And now to something else: how is bread baked without any yeast?"),
        said("How do I prune it?", "In spring."),
    ):
        assert request(other) is None
