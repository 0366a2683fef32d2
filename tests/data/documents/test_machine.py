"""Machine texts: harmless, the same for the same numbers, and as long as asked."""

from __future__ import annotations

import random
import re
import time

from hypothesis import given
from hypothesis import strategies as st

from guard.data.documents import machine
from guard.data.documents.machine import GENRES, machine_text, text_of

HARMFUL = re.compile(
    r"(?i)\b(murder|suicide|rape|porn|cocaine|heroin|nazi|terror\w*|weapon|gun|rifle|knife|poison|torture|stab|"
    r"kidnap|racist|slave|hostage|explosive|nude|steal|fraud|hate|blood|corpse|molest|overdose)s?\b"
)
BLUNT = re.compile(r"(?:abort|attack|bomb|kill|execute|destroy)_[a-z]+")
seeds = st.integers(0, 2**64)
genres = st.sampled_from(sorted(GENRES))


@given(genres, st.integers(-5, 3000), seeds)
def test_a_text_is_as_long_as_asked_or_a_word_shorter(genre, length, seed):
    made = text_of(genre, random.Random(seed), length)
    assert max(length - machine.LOST, 0) <= len(made) <= max(length, 0)
    assert made == made.rstrip()


@given(st.integers(1, 1000), seeds)
def test_a_text_depends_on_the_numbers_alone(length, seed):
    first = machine_text(random.Random(seed), length)
    machine_text(random.Random(seed + 1), length)
    assert machine_text(random.Random(seed), length) == first


def test_every_genre_is_written_and_no_two_texts_are_alike():
    rng = random.Random(1)
    assert len(GENRES) >= 20
    for genre in GENRES:
        assert len({text_of(genre, rng, 300) for _ in range(50)}) == 50
    assert len({machine_text(rng, 200) for _ in range(2000)}) == 2000


def test_nothing_harmful_is_written_and_every_host_is_made_up():
    rng = random.Random(2)
    texts = [text_of(genre, rng, 4000) for genre in GENRES for _ in range(10)]
    assert not [HARMFUL.search(text) for text in texts if HARMFUL.search(text)]
    hosts = {
        host for text in texts for host in re.findall(r"(?:https?://|@)([\w.-]+\.[a-z]{2,})(?=[\s/>;,\"')\]|]|$)", text)
    }
    assert len(hosts) > 5
    assert all(re.search(r"(^|\.)example\.(com|org|net)$", host) for host in hosts)


def test_blunt_names_stand_in_programs():
    rng = random.Random(3)
    found = {name for _ in range(300) for name in BLUNT.findall(text_of("python", rng, 400))}
    assert len(found) > 10


def test_speed():
    rng, texts = random.Random(4), 2000
    started = time.perf_counter()
    lengths = [len(machine_text(rng, 300)) for _ in range(texts)]
    print(f"{texts / (time.perf_counter() - started):.0f} machine texts of 300 characters a second")
    assert min(lengths) >= 300 - machine.LOST
