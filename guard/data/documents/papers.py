"""Generated legal, medical and office papers: genres of machine.py. Each is an endless sequence of lines."""

from __future__ import annotations

from collections.abc import Iterator

from guard.data.documents.vocabulary import CITIES, MONTHS, Pen

_DUTIES = (
    "keep this notice",
    "pay the agreed fee",
    "return all copies",
    "give notice in writing",
    "insure the goods",
    "keep records for {} years",
    "refrain from resale",
    "bear the cost of delivery",
    "tell the other party without delay",
)
_EVENTS = (
    "in the event of termination",
    "where a payment is late by {} days",
    "if any provision is held to be void",
    "in case of damage, loss or death of livestock",
    "unless a court orders otherwise",
    "should the premises be destroyed by fire",
    "where the licensee attacks the validity of a claim",
    "if execution of the order fails",
)
_LIMITS = (
    "liability is limited to the amount paid",
    "no warranty is given, express or implied",
    "neither party is liable for indirect loss",
    "nothing here excludes liability for injury caused by gross negligence",
    "the risk remains with the buyer",
    "remedies at law are not affected",
    "all claims expire after {} months",
)
_PARTIES = ("the Licensee", "the Licensor", "the Tenant", "the Supplier", "the Customer", "either party", "You", "we")
_SHALL = ("shall", "must", "will", "may not fail to", "has, or have, to")
_EFFECTS = ("headache", "nausea", "dizziness", "dry mouth", "rash", "tiredness", "stomach pain", "hives", "fever")
_SUFFIXES = ("in", "ol", "ide", "ate", "one", "ine", "an")


def _slot(pen: Pen, texts: tuple[str, ...]) -> str:
    return pen.of(texts).replace("{}", str(pen.number(2, 90)))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _clause(pen: Pen) -> str:
    party = pen.of(_PARTIES)
    style = pen.number(0, 3)
    if style == 0:
        return f"{_capital(_slot(pen, _EVENTS))}, {party} {pen.of(_SHALL)} {_slot(pen, _DUTIES)}."
    if style == 1:
        return f"{_capital(party)} {pen.of(_SHALL)} {_slot(pen, _DUTIES)}; {_slot(pen, _LIMITS)}."
    if style == 2:
        return f"To the extent that the law allows, {_slot(pen, _LIMITS)}, {_slot(pen, _EVENTS)}."
    return f'"{pen.title()}" means any {pen.thing()} that {party} made available under Section {pen.number(1, 20)}.'


def contract(pen: Pen) -> Iterator[str]:
    yield f"{pen.of(('AGREEMENT', 'LEASE', 'CONTRACT OF SALE', 'DEED', 'SERVICE AGREEMENT'))} No. {pen.number(1, 999)}"
    yield f"between {pen.brand()}, {pen.of(CITIES)}, and {pen.name()}, dated {pen.date()}"
    yield ""
    section = 0
    while True:
        section += 1
        yield (
            f"{section}. "
            f"{pen.of(('Term', 'Payment', 'Liability', 'Termination', 'Notices', 'Definitions', 'Penalties'))}"
        )
        for part in range(pen.number(1, 3)):
            yield f"{section}.{part + 1} {_clause(pen)} {_clause(pen) if pen.chance(0.4) else ''}".rstrip()
        yield ""


def licence(pen: Pen) -> Iterator[str]:
    yield f"{pen.title().upper()} LICENSE, version {pen.number(1, 4)}.{pen.number(0, 9)}"
    yield f"Copyright (c) {pen.number(1985, 2025)} {pen.brand()}. All rights reserved."
    yield ""
    letter = 0
    while True:
        if pen.chance(0.25):
            yield f"{_slot(pen, _LIMITS)}. {_clause(pen)} {_slot(pen, _LIMITS)}.".upper()
        else:
            yield f"({chr(ord('a') + letter % 26)}) {_clause(pen)} {_clause(pen)}"
            letter += 1
        yield ""


def terms(pen: Pen) -> Iterator[str]:
    site = pen.brand()
    yield f"Terms of Service of {site}. Last changed: {pen.date()}"
    while True:
        yield (
            f"{pen.of(('By using', 'When you open an account with', 'Before you order from'))} {site}, you accept "
            "these terms."
        )
        yield _clause(pen)
        yield (
            f"We remove content that is {pen.of(('hateful', 'violent', 'sexual', 'illegal', 'misleading'))} or that "
            f"{pen.of(('threatens others', 'infringes rights', 'promotes self-harm', 'sells drugs'))}, and "
            f"{pen.of(('may close the account', 'tell you why', 'report it where the law requires'))}."
        )
        yield f"Complaints: {pen.email()}. We answer within {pen.number(2, 30)} days."


def leaflet(pen: Pen) -> Iterator[str]:
    drug = (pen.noun()[:4] + pen.of(_SUFFIXES)).title()
    yield f"PACKAGE LEAFLET: INFORMATION FOR THE PATIENT. {drug} {pen.number(1, 50) * 10} mg tablets"
    while True:
        yield f"What {drug} is used for: {drug} is taken for {pen.of(_EFFECTS)} and {pen.of(_EFFECTS)}."
        yield (
            f"Do not take {drug} if you are allergic to it, "
            f"{pen.of(('are pregnant', 'drink alcohol', 'have a fever'))} "
            f"or take {pen.noun()[:4]}{pen.of(_SUFFIXES)}. Ask your doctor or pharmacist."
        )
        yield (
            f"Adults: {pen.number(1, 3)} tablet(s) every {pen.number(4, 12)} hours with water, for up to "
            f"{pen.number(2, 9)} days."
        )
        yield (
            f"If you took more than you should, {pen.of(('call a doctor', 'go to the nearest hospital'))} and "
            "bring the "
            f"pack. Too much of it can cause {pen.of(_EFFECTS)} and, rarely, loss of consciousness or death."
        )
        yield f"Side effects, {pen.of(('common', 'uncommon', 'rare'))}: {pen.of(_EFFECTS)}, {pen.of(_EFFECTS)}."
        yield f"Keep out of the sight and reach of children. Store below {pen.number(20, 30)} °C."


def minutes(pen: Pen) -> Iterator[str]:
    people = [pen.name() for _ in range(4)]
    yield f"Minutes of the {pen.noun()} committee, {pen.date()}, {pen.clock()}, {pen.of(CITIES)}"
    yield f"Present: {', '.join(people[:3])}. Apologies: {people[3]}."
    item = 0
    while True:
        item += 1
        yield (
            f"{item}. {pen.of(('Budget', 'Matters arising', 'Any other business', 'Fire drill', 'Reports'))}: "
            f"{pen.thing()}"
        )
        yield f"   {pen.of(people)} reported: {pen.sentence()}"
        yield (
            f"   {pen.of(('Agreed', 'Deferred', 'Rejected', 'Killed for lack of funds'))}; {pen.number(0, 9)} for, "
            f"{pen.number(0, 4)} against."
        )
        yield f"   ACTION: {pen.of(people)} to {pen.verb()} the {pen.thing()} by {pen.number(1, 28)} {pen.of(MONTHS)}."


def application(pen: Pen) -> Iterator[str]:
    yield (
        f"FORM {pen.hex(2).upper()}-{pen.number(10, 999)}: "
        f"{pen.of(('Claim', 'Permit', 'Registration', 'Incident report'))}"
    )
    part = 0
    while True:
        part += 1
        yield (
            f"Part {part}. "
            f"{pen.of(('Applicant', 'Injury', 'Vehicle', 'Witnesses', 'Declaration', 'Payment', 'Next of kin'))}"
        )
        yield f"  {part}.1 Full name: {pen.name()}   Date of birth: {pen.date()}   Ref.: {pen.hex(8).upper()}"
        yield (
            f"  {part}.2 {pen.of(('Cause of death', 'Nature of the damage', 'Purpose', 'Place'))}: ____________________"
        )
        yield f"  {part}.3 [ ] yes [ ] no   {pen.sentence()}"
        yield (
            "  "
            f"{pen.of(('For office use only', 'Attach a copy', 'False statements are an offence.', 'Sign overleaf.'))}"
        )


GENRES = (contract, licence, terms, leaflet, minutes, application)
