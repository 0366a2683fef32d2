"""Words, names and numbers of generated machine texts. All are neutral; every domain is a reserved one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

Choice = TypeVar("Choice")


def _words(text: str, mark: str = " ") -> tuple[str, ...]:
    return tuple(text.split(mark))


NOUNS = _words(
    "album anchor apple archive arrow badge bakery balcony basket battery beacon bench bicycle blanket board bottle "
    "bridge brush bucket button cabin cable calendar camera candle canvas carpet castle chair channel chart circle "
    "clock cloud coffee compass copper corner cotton cover cushion curtain desk diary drawer engine fabric feather "
    "fence filter folder forest fountain frame garden gallery glove grain guitar hammer handle harbour helmet hinge "
    "invoice island jacket kettle keyboard kitchen ladder lamp lantern leaf lemon letter library lighthouse linen "
    "machine magazine maple market meadow mirror monitor museum napkin needle notebook orchard oven paint panel paper "
    "parcel pasture pencil pepper piano pillow planet plate pocket portal printer pump puzzle radio raincoat ribbon "
    "river rocket roof saddle sandal scarf schedule screen shelf shovel signal socket sofa spoon station stone table "
    "teapot ticket timber towel tractor trail tray tunnel umbrella valley vase violin wagon wallet window wool"
)
ADJECTIVES = _words(
    "amber basic blue bright broad brown calm classic clean compact cosy crisp daily deluxe double early easy fresh "
    "gentle golden grand green grey handy heavy indoor instant large late light little local long lucky modern narrow "
    "new northern open orange organic outdoor pale plain portable quick quiet red round rustic silver simple slim "
    "small soft solid spare square steel striped sunny super sweet tall thick tiny warm white wide wild wooden"
)
VERBS = _words(
    "add apply build cancel check clean close collect compare convert copy count create delete draw export fetch fill "
    "filter find fold format import insert join list load lock merge move open pack paint parse print push read render "
    "repair reset resize restore rotate save scan search select send sort split start stop store submit swap sync tag "
    "test track trim update upload validate view wash wrap write"
)
# Harmless where they occur: in names of functions.
BLUNT = _words(
    "abort attack bomb crash destroy die drop execute explode fire hang hit inject kill purge strike terminate"
)
PARTS = _words("buffer cache handle hook job pipe process queue session socket task thread timer transaction")
FIRST = _words(
    "Ada Amir Anna Ben Bruno Carla Chen Clara Dana David Elif Emma Erik Farah Felix Grace Hana Hugo Ines Ivan Jana "
    "Joel Jonas Kai Keiko Lars Leila Lena Liam Lucia Mara Marco Maya Mei Milan Nadia Nils Nina Noah Olga Omar Oscar "
    "Paula Petra Priya Rafael Rosa Ruth Samir Sara Sofia Tara Theo Tomas Uma Vera Viktor Wei Yusuf Zoe"
)
LAST = _words(
    "Abara Adler Almeida Bakker Bauer Bennet Castro Conti Dahl Demir Duarte Eklund Ferro Fischer Garner Greene Haddad "
    "Hansen Holt Ito Jansen Kaya Keller Kovac Kumar Larsen Lindqvist Lopes Marsh Meyer Moreau Nakano Novak Okafor "
    "Olsen Park Petrov Quist Ramos Rossi Sato Silva Stone Tanaka Thorne Varga Vidal Weber Winter Yilmaz Zeller"
)
CITIES = _words(
    "Alderton,Ashford,Bellmere,Brookfield,Cedar Falls,Clifton,Dunmore,Eastham,Fairview,Glenwood,Harborough,Hillcrest,"
    "Kingsbury,Lakeside,Lindenau,Maplewood,Millbrook,Newhaven,Northgate,Oakridge,Port Elm,Queensfield,Riverton,"
    "Rosedale,Sandhurst,Southwell,Stonebridge,Summerfield,Thornbury,Upton,Valmont,Westbrook,Whitby,Woodstock",
    ",",
)
SHOPS = _words("Goods Works Shop Store Club Group Trading Media Supply Online Market Digest Times Studio Lab")
MONTHS = _words("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")
DAYS = _words("Mon Tue Wed Thu Fri Sat Sun")
DOMAINS = ("example.com", "example.org", "example.net", "www.example.com", "www.example.org", "shop.example.com")
HOSTS = ("cdn", "blog", "news", "mail", "forum", "img", "static", "api", "docs", "wiki", "m", "store", "en", "de")
ENDINGS = ("", "", "/", ".html", ".php", ".htm", ".pdf", ".jpg", ".png", ".aspx", ".xml", ".zip", ".js", ".css")
OPENINGS = _words(
    "The update,Our new shop,This page,The second part,The meeting,Your parcel,The next train,A short summary,The list,"
    "The old version,The museum,My neighbour,The team,The workshop,Every member,The library,The report,The new menu,"
    "The spare key,The answer,The photo,The course,The second bus,A friend of mine,The form",
    ",",
)
PREDICATES = _words(
    "is ready,was moved to the archive,opens again on Monday,needs one more review,has a new cover,was sent yesterday,"
    "looks fine to me,is out of stock,takes about an hour,costs less than last year,will be shown below,is still open,"
    "starts at nine,was printed twice,has been renamed,is on the shelf,can be found in the hall,was fun to read,"
    "comes with two handles,works again,is not final,has twelve pages,arrives on Friday,was a nice surprise",
    ",",
)
TAILS = _words(
    ",,,, at the moment, as far as I know, as usual, this week, near the station, for all members, in most shops,"
    " again, until further notice, with free delivery, thanks to the volunteers, in every size, since the last update",
    ",",
)
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Pen:
    """Draws words and numbers; equal generators give equal draws."""

    __slots__ = ("random",)

    def __init__(self, rng: random.Random) -> None:
        self.random = rng.random

    def of(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.random() * len(choices))]

    def number(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, rate: float) -> bool:
        return self.random() < rate

    def noun(self) -> str:
        return NOUNS[int(self.random() * len(NOUNS))]

    def adjective(self) -> str:
        return ADJECTIVES[int(self.random() * len(ADJECTIVES))]

    def verb(self) -> str:
        return self.of(VERBS)

    def thing(self) -> str:
        return f"{self.adjective()} {self.noun()}"

    def title(self) -> str:
        return f"{self.adjective()} {self.noun()}".title()

    def name(self) -> str:
        return f"{self.of(FIRST)} {self.of(LAST)}"

    def nick(self) -> str:
        style = self.number(0, 3)
        if style == 0:
            return f"{self.adjective()}_{self.noun()}"
        if style == 1:
            return f"{self.of(FIRST).lower()}{self.number(1, 99)}"
        return f"{self.noun().title()}{self.of(LAST)}" if style == 2 else f"{self.noun()}{self.number(100, 2010)}"

    def brand(self) -> str:
        return f"{self.noun().title()} {self.of(SHOPS)}"

    def email(self) -> str:
        return f"{self.of(FIRST).lower()}.{self.of(LAST).lower()}@{self.of(DOMAINS[:3])}"

    def sentence(self) -> str:
        return f"{self.of(OPENINGS)} {self.of(PREDICATES)}{self.of(TAILS)}."

    def word(self) -> str:
        """A function name; sometimes a blunt verb, which then applies to a part of a program."""
        if self.random() < 0.15:
            return f"{self.of(BLUNT)}_{self.of(PARTS)}"
        return f"{self.of(VERBS)}_{self.noun()}"

    def day(self) -> str:
        return f"{self.number(1998, 2025)}-{self.number(1, 12):02}-{self.number(1, 28):02}"

    def date(self) -> str:
        style = self.number(0, 3)
        if style == 0:
            return self.day()
        if style == 1:
            return f"{self.number(1, 28):02}.{self.number(1, 12):02}.{self.number(1998, 2025)}"
        if style == 2:
            return f"{self.of(MONTHS)} {self.number(1, 28)}, {self.number(1998, 2025)}"
        return f"{self.number(1, 12)}/{self.number(1, 28)}/{self.number(0, 25):02}"

    def clock(self) -> str:
        return f"{self.number(0, 23):02}:{self.number(0, 59):02}"

    def time(self) -> str:
        return f"{self.clock()}:{self.number(0, 59):02}"

    def money(self) -> str:
        return f"{self.number(1, 399)}.{self.of(('00', '50', '90', '95', '99', '25'))}"

    def hex(self, digits: int) -> str:
        return f"{int(self.random() * 2**52):013x}{int(self.random() * 2**52):013x}{int(self.random() * 2**52):013x}"[
            :digits
        ]

    def base64(self, digits: int) -> str:
        return "".join([_BASE64[int(self.random() * 64)] for _ in range(digits)])

    def address(self) -> str:
        """An IP address of the block reserved for documentation."""
        return f"192.0.2.{self.number(1, 254)}"

    def path(self) -> str:
        style = self.number(0, 3)
        if style == 0:
            return f"/{self.noun()}/{self.noun()}-{self.number(1, 9999)}{self.of(ENDINGS)}"
        if style == 1:
            return (
                f"/{self.number(2004, 2025)}/{self.number(1, 12):02}/{self.adjective()}-{self.noun()}{self.of(ENDINGS)}"
            )
        if style == 2:
            return f"/{self.noun()}.php?id={self.number(1, 99999)}&{self.noun()}={self.number(0, 50)}"
        return f"/{self.noun()}/{self.adjective()}_{self.noun()}{self.of(ENDINGS)}"

    def url(self) -> str:
        scheme = "https" if self.random() < 0.6 else "http"
        if self.random() < 0.5:
            return f"{scheme}://{self.of(DOMAINS)}{self.path()}"
        return f"{scheme}://{self.of(HOSTS)}.{self.of(DOMAINS[:3])}{self.path()}"
