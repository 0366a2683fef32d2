"""Generated web pages, mail, documents and chats: genres of machine.py. Each is an endless sequence of lines."""

from __future__ import annotations

from collections.abc import Iterator

from guard.data.documents.vocabulary import CITIES, DAYS, MONTHS, Pen

_EMOJI = ("", "", "", " :)", " lol", " 😀", " 👍", " ;-)", " haha", " ...")

# -- the web ----------------------------------------------------------------------------------------------------------


def urls(pen: Pen) -> Iterator[str]:
    mark = pen.of(("", "", "- ", "* ", "[URL]", "> ", "1. "))
    while True:
        yield f"{mark}{pen.url()}" + (f" {pen.title()}" if pen.chance(0.15) else "")


def menu(pen: Pen) -> Iterator[str]:
    bar = pen.of((" | ", " » ", " · ", " > ", "  ", " / "))
    fixed = ("Home", "About us", "Contact", "Log in", "Register", "Search", "Help", "News", "Gallery", "My account")
    while True:
        yield bar.join([pen.of(fixed), pen.noun().title(), pen.title(), pen.of(fixed), f"{pen.noun()}s".title()])
        yield pen.of(("Skip to content", "Toggle navigation", "Cart (0)", "Read more »", f"Page {pen.number(1, 40)}"))


def footer(pen: Pen) -> Iterator[str]:
    while True:
        yield f"© {pen.number(1999, 2025)} {pen.brand()}. All rights reserved. Powered by {pen.noun().title()}CMS"
        yield "Privacy policy | Terms of use | Imprint | Sitemap | RSS | Contact | Impressum | Datenschutz"
        yield f"{pen.number(1, 250)} {pen.noun().title()} Street, {pen.of(CITIES)} · Tel. 555-01{pen.number(10, 99)}"
        yield f"{pen.brand()} | {pen.email()} | {pen.url()}"


def cookies(pen: Pen) -> Iterator[str]:
    while True:
        yield pen.of(("We value your privacy", "This website uses cookies", "Cookie settings", "Your choice"))
        yield f"{pen.brand()} and {pen.number(3, 900)} partners use cookies to {pen.of(('measure', 'improve'))} visits."
        yield pen.of(("Accept all | Reject all | Manage", "[x] Necessary [ ] Statistics [ ] Marketing", "OK, got it"))
        yield f"_{pen.noun()}_id  {pen.brand()}  {pen.number(1, 24)} months  {pen.sentence()}"


def html(pen: Pen) -> Iterator[str]:
    while True:
        name = pen.noun()
        yield f'<div class="{name}-{pen.noun()}" id="{name}{pen.number(1, 99)}">'
        yield f'  <a href="{pen.url()}" rel="nofollow">{pen.title()}</a> <br />'
        yield f'  <img src="{pen.path()}" alt="{pen.thing()}" width="{pen.number(16, 640)}" />'
        yield f"  <p>{pen.sentence()}</p>&nbsp;<span>{pen.number(1, 999)}</span>"
        yield "</div>"


def listing(pen: Pen) -> Iterator[str]:
    while True:
        yield f"{pen.title()} {pen.adjective()} {pen.noun()} {pen.number(2, 60)} cm, {pen.number(1, 12)}-pack"
        yield f"${pen.money()}  ({pen.number(1, 4999)} ratings) {pen.of(('In stock', 'Only 2 left', 'Sold out'))}"
        yield pen.of(("Add to cart", "Free shipping", "Compare | Wish list", f"SKU: {pen.hex(8).upper()}", "SALE -20%"))


def hashtags(pen: Pen) -> Iterator[str]:
    while True:
        yield " ".join([f"#{pen.adjective()}{pen.noun()}", f"#{pen.noun()}", f"@{pen.nick()}", f"#{pen.noun()}life"])
        yield f"{pen.number(1, 999)} likes · {pen.number(0, 80)} comments · {pen.number(0, 40)} shares"


def forum(pen: Pen) -> Iterator[str]:
    while True:
        nick = pen.nick()
        yield f"[quote={nick}]{pen.sentence()}[/quote]"
        yield f"{pen.sentence()}{pen.of(_EMOJI)}"
        yield (
            f"Posted: {pen.date()} {pen.clock()}  Posts: {pen.number(1, 9999)}  Joined: {pen.of(MONTHS)} "
            f"20{pen.number(3, 24):02}"
        )
        yield "_" * pen.number(8, 30)
        yield f"{pen.title()} {pen.number(10, 99)}00 | {pen.number(4, 64)} GB | {pen.sentence()}"
        yield pen.of(("Reply with quote", "Report post", "Back to top", "Thanks given: 12", "Last edited by mod"))


def edits(pen: Pen) -> Iterator[str]:
    while True:
        nick = pen.nick()
        yield (
            f"(cur | prev) {pen.clock()}, {pen.number(1, 28)} {pen.of(MONTHS)} {pen.number(2004, 2025)} {nick} "
            f"(talk | contribs)"
        )
        yield (
            f"m (+{pen.number(1, 900)}) (→{pen.title()}: "
            f"{pen.of(('typo', 'link', 'rv test edit', 'fmt', 'new table'))})"
        )
        yield f"{{{{{pen.noun()}|date={pen.of(MONTHS)} {pen.number(2006, 2025)}}}}} [[{pen.title()}]] ~~~~"


# -- mail and papers --------------------------------------------------------------------------------------------------


def mail(pen: Pen) -> Iterator[str]:
    while True:
        yield f"From: {pen.name()} <{pen.email()}>"
        yield f"Sent: {pen.of(DAYS)}, {pen.date()} {pen.clock()}"
        yield f"To: {pen.email()}; {pen.email()}"
        yield f"Subject: {pen.of(('RE: ', 'FW: ', 'Re: Re: ', ''))}{pen.thing()} {pen.of(('list', 'draft', 'order'))}"
        yield f"> {pen.sentence()}"
        yield f">> {pen.sentence()}"
        yield f"{pen.sentence()} {pen.sentence()}"
        yield f"Message-ID: <{pen.hex(16)}@mail.example.org>"


def signature(pen: Pen) -> Iterator[str]:
    while True:
        yield pen.of(
            ("-- ", "Best regards,", "Kind regards", "Thanks,", "---------", "Cheers,", "Mit freundlichen Grüßen")
        )
        yield pen.name()
        yield f"{pen.of(('Head of', 'Assistant,', 'Manager,', 'Intern,'))} {pen.noun().title()} | {pen.brand()}"
        yield f"{pen.number(1, 99)} {pen.noun().title()} Road, {pen.of(CITIES)} {pen.number(10000, 99999)}"
        yield f"Phone: +1 555 01{pen.number(10, 99)} | Fax: +1 555 01{pen.number(10, 99)} | {pen.email()}"
        yield pen.of(
            (
                "Please consider the trees before printing.",
                "Sent from my phone",
                pen.url(),
                "This e-mail is meant for its recipient only.",
            )
        )


def order(pen: Pen) -> Iterator[str]:
    while True:
        yield f"Order #{pen.number(1000, 999999)} confirmed, {pen.date()}"
        yield f"Dear {pen.name()}, thank you for your order at {pen.brand()}."
        yield f"{pen.number(1, 9)} x {pen.title()}   ${pen.money()}"
        yield f"{pen.number(1, 9)} x {pen.title()}   ${pen.money()}"
        yield f"Shipping: ${pen.money()}  Total: ${pen.money()}  Tracking: {pen.hex(12).upper()}"
        yield f"Deliver to: {pen.number(1, 99)} {pen.noun().title()} Lane, {pen.of(CITIES)}"


def form(pen: Pen) -> Iterator[str]:
    line = pen.of(("_" * 18, "." * 20, "[          ]", "________"))
    while True:
        yield f"{pen.of(('Name', 'Surname', 'Company', 'Street', 'Town', 'E-mail', 'Signature', 'Date'))}: {line}"
        yield f"( ) {pen.title()} ${pen.money()}  Qty: ____   ( ) {pen.title()} ${pen.money()}  Qty: ____"
        yield pen.of(
            (
                "* required",
                "Please print clearly",
                f"Mail to: {pen.brand()}, PO Box {pen.number(1, 999)}",
                "[ ] Yes [ ] No",
            )
        )


def invoice(pen: Pen) -> Iterator[str]:
    yield f"INVOICE No. {pen.number(100, 99999)}   Date {pen.date()}   Due {pen.date()}"
    yield "Pos  Item                     Qty     Price     Amount"
    row = 0
    while True:
        row += 1
        yield f"{row:>3}  {pen.title():<24} {pen.number(1, 40):>3} {pen.money():>9} {pen.money():>10}"
        if pen.chance(0.1):
            yield f"{'VAT 19 %':<33} {pen.money():>19}"


def weather(pen: Pen) -> Iterator[str]:
    while True:
        sky = pen.of(("sunny", "cloudy", "light rain", "showers", "clear", "fog patches", "windy", "snow"))
        yield f"{pen.of(CITIES)} {pen.of(DAYS)} {pen.number(-9, 34)}°C / {pen.number(-15, 20)}°C {sky}"
        yield (
            f"Wind {pen.of(('N', 'NE', 'SW', 'W'))} {pen.number(1, 60)} km/h, humidity {pen.number(20, 99)} %, "
            f"UV {pen.number(0, 9)}"
        )


def timetable(pen: Pen) -> Iterator[str]:
    yield f"Line {pen.number(1, 99)}  {pen.of(CITIES)} - {pen.of(CITIES)}   valid from {pen.date()}"
    while True:
        yield (
            f"{pen.of(CITIES):<14} {pen.clock()}  {pen.clock()}  {pen.clock()}  "
            f"{pen.of(('', 'Plat. 2', 'Mon-Fri', 'x'))}"
        )


def sports(pen: Pen) -> Iterator[str]:
    yield pen.of(("Pos Team            P  W  D  L  Pts", "RESULTS - ROUND 7", "Home  Away  Score", "Player  G  A  PTS"))
    row = 0
    while True:
        row += 1
        yield (
            f"{row:>2}. {pen.of(CITIES)} {pen.noun().title()}s  {pen.number(5, 38)} {pen.number(0, 20)} "
            f"{pen.number(0, 9)} {pen.number(0, 60)}"
        )
        if pen.chance(0.3):
            yield (
                f"{pen.of(CITIES)} {pen.number(0, 5)}-{pen.number(0, 5)} {pen.of(CITIES)} ({pen.name()} "
                f"{pen.number(1, 90)}')"
            )


def horoscope(pen: Pen) -> Iterator[str]:
    while True:
        yield pen.of(("Aries", "Taurus", "Gemini", "Cancer", "Leo", "Virgo", "Libra", "Pisces")).upper()
        yield (
            f"A {pen.thing()} brings luck. {pen.sentence()} Lucky number: {pen.number(1, 49)}. Colour: "
            f"{pen.adjective()}."
        )


def recipe(pen: Pen) -> Iterator[str]:
    foods = ("flour", "butter", "sugar", "tomatoes", "rice", "oats", "milk", "basil", "carrots", "olive oil", "eggs")
    while True:
        yield (
            f"- {pen.number(1, 500)} {pen.of(('g', 'ml', 'tbsp', 'cups'))} {pen.of(foods)}, "
            f"{pen.of(('sliced', 'fresh', 'warm'))}"
        )
        if pen.chance(0.3):
            yield (
                f"{pen.number(1, 9)}. Stir the {pen.of(foods)} into the {pen.of(foods)}, {pen.number(2, 50)} "
                f"min at {pen.number(12, 22)}0°C."
            )


def references(pen: Pen) -> Iterator[str]:
    row = pen.number(1, 30)
    while True:
        row += 1
        yield (
            f"[{row}] {pen.name()}, {pen.name()} ({pen.number(1970, 2025)}). {pen.title()} and {pen.noun()}. "
            f"J. {pen.noun().title()} {pen.number(1, 60)}({pen.number(1, 6)}), "
            f"{pen.number(1, 400)}-{pen.number(401, 900)}."
        )


def calendar(pen: Pen) -> Iterator[str]:
    while True:
        yield "BEGIN:VEVENT"
        yield f"UID:{pen.hex(20)}@example.org"
        yield f"DTSTART:{pen.day().replace('-', '')}T{pen.clock().replace(':', '')}00Z"
        yield f"SUMMARY:{pen.title()} with {pen.name()}"
        yield f"LOCATION:{pen.of(CITIES)}"
        yield "END:VEVENT"


# -- talk -------------------------------------------------------------------------------------------------------------


def chat(pen: Pen) -> Iterator[str]:
    nicks = [pen.nick(), pen.nick(), pen.nick()]
    style = pen.of(("[{}] <{}>", "{} {}:", "({}) {}:", "[{}] {} »"))
    while True:
        if pen.chance(0.12):
            yield f"*** {pen.of(nicks)} has {pen.of(('joined', 'left'))} #{pen.noun()}"
        yield f"{style.format(pen.clock(), pen.of(nicks))} {pen.sentence()}{pen.of(_EMOJI)}"


def subtitles(pen: Pen) -> Iterator[str]:
    row = pen.number(1, 900)
    while True:
        row += 1
        yield str(row)
        yield (
            f"00:{pen.number(0, 59):02}:{pen.number(0, 29):02},{pen.number(0, 999):03} --> "
            f"00:{pen.number(0, 59):02}:{pen.number(30, 59):02},{pen.number(0, 999):03}"
        )
        yield pen.of(("- ", "", "")) + pen.sentence()
        yield ""


GENRES = (
    urls,
    menu,
    footer,
    cookies,
    html,
    listing,
    hashtags,
    forum,
    edits,
    mail,
    signature,
    order,
    form,
    invoice,
    weather,
    timetable,
    sports,
    horoscope,
    recipe,
    references,
    calendar,
    chat,
    subtitles,
)
