"""Alphabets: what stands for a letter in Morse code, Braille, the radio alphabet, and letters turned around."""

from __future__ import annotations

import string
from collections.abc import Mapping

LOWER = string.ascii_lowercase


def _pairs(letters: str, signs: str) -> Mapping[str, str]:
    return dict(zip(letters, signs.split(), strict=True))


# ITU-R M.1677-1.
MORSE: Mapping[str, str] = _pairs(
    LOWER + string.digits + ".,?'!/()&:;=+-_\"$@",
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. "
    ".-.-.- --..-- ..--.. .----. -.-.-- -..-. -.--. -.--.- .-... ---... -.-.-. -...- .-.-. -....- ..--.- .-..-. "
    "...-..- .--.-.",
)
# Unified English Braille, uncontracted.
BRAILLE: Mapping[str, str] = dict(zip(LOWER + ".,?'!-;:", "⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵⠲⠂⠦⠄⠖⠤⠆⠒", strict=True))
# The spelling alphabet of ICAO, ITU and NATO.
RADIO: Mapping[str, str] = _pairs(
    LOWER,
    "alfa bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo "
    "sierra tango uniform victor whiskey xray yankee zulu",
)
# What stands upside down for a letter; a text that is turned is also written backwards.
TURNED: Mapping[str, str] = dict(zip(LOWER + "?!._", "ɐqɔpǝɟƃɥᴉɾʞlɯuodbɹsʇnʌʍxʎz¿¡˙‾", strict=True))
# q and x have no small capital.
SMALL_CAPITALS: Mapping[str, str] = dict(zip("abcdefghijklmnoprstuvwyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", strict=True))
MIRRORED: Mapping[str, str] = dict(zip(LOWER, "ɒdɔbɘʇϱʜiįʞlmnoqpɿƨɈυvwxγz", strict=True))
# Letters by the keys of a telephone: 44 is the second letter of the key 4.
KEYPAD: Mapping[str, str] = _pairs(
    LOWER, "2 22 222 3 33 333 4 44 444 5 55 555 6 66 666 7 77 777 7777 8 88 888 9 99 999 9999"
)
# Signs of other scripts as fancy-text generators use them, one table for each of their styles.
FANCY: Mapping[str, Mapping[str, str]] = {
    "currency": dict(zip(LOWER, "₳฿₵ĐɆ₣₲ⱧłJ₭Ⱡ₥₦Ø₱QⱤ₴₮ɄV₩ӾɎⱫ", strict=True)),
    "mixed": dict(zip(LOWER, "αв¢∂єƒgнιנкℓмησρqяѕтυνωχуz", strict=True)),
    "eastern": dict(zip(LOWER, "卂乃匚ᗪ乇千Ꮆ卄丨ﾌҜㄥ爪几ㄖ卩Ɋ尺丂ㄒㄩᐯ山乂ㄚ乙", strict=True)),
    "syllabics": dict(zip(LOWER, "ᗩᗷᑕᗪEᖴGᕼIᒍKᒪᗰᑎOᑭᑫᖇᔕTᑌᐯᗯ᙭Yᘔ", strict=True)),
    "barred": dict(zip(LOWER, "Ⱥƀȼđɇfǥħɨɉꝁłmnøᵽꝗɍsŧᵾvwxɏƶ", strict=True)),
    "ethiopic": dict(zip(LOWER, "ልጌርዕቿቻኗዘጎጋጕረጠክዐየዒዪነፕሁሀሠሸሃጊ", strict=True)),
}


def inverse(alphabet: Mapping[str, str]) -> dict[str, str]:
    """Letters by what stands for them."""
    return {sign: letter for letter, sign in alphabet.items()}
