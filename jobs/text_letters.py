"""Pure: how likely a text is in the languages of its encoding, by the letters that they use most."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["bits", "looks_written"]

SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多"
    "经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性"
    "知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次"
    "度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建"
    "务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思请吗吧呢谢早今"
)
TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多"
    "經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性"
    "知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次"
    "度門任常先海通教兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建"
    "務做接必場件計管期市直德資命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則聽白卻界達光放強即像難且權思請嗎吧呢謝早今"
)
KOREAN = (
    "이다는을가의에고하지도은나한사기로어리아를서그자인대해시있라들수일정게보여면니만부전것으우제과상장원오거주요스무구안내세마와"
    "성러소미모동조신당경음물생려말비공적없위계중방영문국회연저년야바관식때네었했습람금합호간데두았진양같죠예후남개강반번학분실타"
    "교화속단던터행되더올좋못왜뭐트드르크히노치유선심재잘집길울날알불밤명직업월초약많별친외"
)
HIRAGANA = "".join(map(chr, range(0x3041, 0x3094)))
KATAKANA = "".join(map(chr, (*range(0x30A1, 0x30F7), 0x30FC)))
CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэёіїєґў"
GREEK = "αοιετσνηυρπκμλςγδωχθφβξζψάέίόήώύϊ"
HEBREW = "יוהלארתבשמנדקעחפטסגצזךםןץף"
ARABIC = "اليمونرتبةعدسفهكقأحجشصضطخذىغثءزئإآؤ"
THAI = "านรอกเงมยลวดทสตปบคะแไขพหชจใโธ" + "".join(
    map(chr, (0xE31, 0xE33, 0xE34, 0xE35, 0xE38, 0xE39, 0xE47, 0xE48, 0xE49, 0xE4C))
)

WESTERN = (
    *("àâçéèêëîïôœùû", "äöüß", "áéíñóúü", "ãõáâàçéêíóôú", "àèéìòù", "åäö", "æøåé", "éëïöü", "áðéíóúýþæö", "àçèéíïòóúü"),
    "äõöü",
)
CENTRAL = ("ąćęłńóśźż", "áčéěíňřšťúůýž", "áčďéíľňôšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž")
TURKISH = ("çğıöşü",)
BALTIC = ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž")

MARKS = (
    "\u3001\u3002\uff0c\uff0e\uff01\uff1f\uff1a\uff1b\u300c\u300d\u300e\u300f\uff08\uff09\u300a"
    "\u300b\u3008\u3009\u201c\u201d\u2018\u2019\u2026\u2014\uff5e\u30fb\u00b7\u3000\u301c"
)
WESTERN_MARKS = "\u201c\u201d\u2018\u2019\u2026\u2013\u2014\u00ab\u00bb\u201e\u00bf\u00a1\u00b0\u00b7\u2116"
"""Punctuation outside ASCII: of Chinese, Korean and Japanese (MARKS), and of other languages (WESTERN_MARKS)."""

ASCII, MARK, STRANGE = 4.5, 8.0, 26.0
"""Bits per letter: the fewer bits a text costs in a reading, the likelier that reading is."""
RARE_WORDS = 2.0
"""Extra bits of a letter outside ASCII in a language that is mostly written in ASCII."""
CAPITAL = 3.0
MIXED = 10.0
"""Extra bits where two scripts meet in one word."""


@dataclass(frozen=True, slots=True, eq=False)
class _Script:
    """Bits per letter in one language, or in several that are written alike."""

    usual: dict[str, float]
    latin: bool
    known: Callable[[str], float]
    """Bits of all other letters."""

    def cost(self, counts: Counter[str]) -> float:
        """Bits of all letters outside ASCII."""
        return sum(number * self._bits(letter) for letter, number in counts.items())

    def _bits(self, letter: str) -> float:
        if (bits := self.usual.get(letter)) is not None:
            return bits
        if letter in (WESTERN_MARKS if self.latin else MARKS + WESTERN_MARKS):
            return MARK
        lower = letter.lower()
        if lower != letter and lower in self.usual:
            return self.usual[lower] + CAPITAL
        return self.known(letter) if unicodedata.category(letter)[0] != "C" else STRANGE


def _alphabet(letters: str, *, latin: bool) -> _Script:
    bits = math.log2(len(letters)) + (RARE_WORDS if latin else 0)
    return _Script(dict.fromkeys(letters, bits), latin, lambda _: 16.0)


def _encodes(letter: str, encoding: str) -> bytes:
    try:
        return letter.encode(encoding)
    except UnicodeEncodeError:
        return b""


def _hanzi(letter: str) -> float:
    """GB2312 has nearly all characters in use, GBK the rest."""
    return 13.8 if _encodes(letter, "gb2312") else 22.0 if _encodes(letter, "gbk") else STRANGE


def _hanzi_of_taiwan(letter: str) -> float:
    """Big5 puts common characters first."""
    code = _encodes(letter, "big5")
    return STRANGE if not code else 13.5 if b"\xa4" <= code[:1] <= b"\xc6" else 18.0


def _hanzi_of_gbk(letter: str) -> float:
    """Traditional characters, which GBK covers but which are rare in it."""
    return max(15.0, min(_hanzi(letter), _hanzi_of_taiwan(letter) + 2.0))


def _hangul(letter: str) -> float:
    """KS X 1001 has the common syllables in two bytes; the others take more."""
    in_standard = len(_encodes(letter, "euc_kr")) == 2
    if "가" <= letter <= "힣":
        return 13.3 if in_standard else 20.0
    return 19.0 if in_standard else STRANGE


def _kanji(letter: str) -> float:
    """JIS puts common characters first; half-width kana are a relic of teletypes."""
    code = _encodes(letter, "euc_jp")
    if len(code) != 2 or code[:1] < b"\xb0":
        return 15.0 if len(code) == 2 and code[:1] != b"\x8e" else 18.0 if code else 22.0
    return 13.3 if code[:1] <= b"\xcf" else 18.4


CHINESE = _Script(dict.fromkeys(SIMPLIFIED, 9.2), latin=False, known=_hanzi)
OLD_CHINESE = _Script(dict.fromkeys(TRADITIONAL, 9.2), latin=False, known=_hanzi_of_taiwan)
GBK_CHINESE = _Script(dict.fromkeys(TRADITIONAL, 10.2), latin=False, known=_hanzi_of_gbk)
HANGUL = _Script(dict.fromkeys(KOREAN, 7.6), latin=False, known=_hangul)
JAPANESE = _Script(dict.fromkeys(HIRAGANA, 7.2) | dict.fromkeys(KATAKANA, 9.0), latin=False, known=_kanji)


def _alphabets(languages: tuple[str, ...]) -> tuple[_Script, ...]:
    return tuple(_alphabet(letters, latin=True) for letters in languages)


SCRIPTS: dict[str, tuple[_Script, ...]] = {
    "gb18030": (CHINESE, GBK_CHINESE, JAPANESE, HANGUL),
    "big5": (OLD_CHINESE,),
    "cp949": (HANGUL,),
    "cp932": (JAPANESE,),
    "euc_jis_2004": (JAPANESE,),
    "cp1252": _alphabets(WESTERN),
    "cp1250": _alphabets(CENTRAL),
    "iso8859_2": _alphabets(CENTRAL),
    "cp1254": _alphabets(TURKISH),
    "cp1257": _alphabets(BALTIC),
    "cp1251": (_alphabet(CYRILLIC, latin=False),),
    "koi8_r": (_alphabet(CYRILLIC, latin=False),),
    "iso8859_5": (_alphabet(CYRILLIC, latin=False),),
    "cp866": (_alphabet(CYRILLIC, latin=False),),
    "cp1253": (_alphabet(GREEK, latin=False),),
    "cp1255": (_alphabet(HEBREW, latin=False),),
    "cp1256": (_alphabet(ARABIC, latin=False),),
    "tis_620": (_alphabet(THAI, latin=False),),
}
"""Encoding -> the languages written in it."""
MANY_LETTERS = ("gb18030", "big5", "cp949", "cp932", "euc_jis_2004", "utf_16_le", "utf_16_be")
MOST_BITS, MOST_BITS_OF_MANY = 9.5, 14.5
"""Mean per letter. Text in capitals costs 8.5, traditional characters in GB18030 up to 13.5."""
RARE = {
    **dict.fromkeys(("iso8859_2", "iso8859_5", "koi8_r", "cp866", "cp1257", "cp1254", "cp1255", "cp1256", "tis_620"), 8.0),
    **dict.fromkeys(("utf_16_le", "utf_16_be"), 4.0),
    "euc_jis_2004": 2.0,
}
"""Extra bits of rare encodings."""
ALL_SCRIPTS = tuple(dict.fromkeys(script for scripts in SCRIPTS.values() for script in scripts))
OUTSIDE = r"[^\x00-\x7f\u2000-\u206f\u3000-\u303f\uff00-\uff65]"
MIXED_WORD = re.compile(f"(?<=[A-Za-z]){OUTSIDE}|{OUTSIDE}(?=[A-Za-z])")


def looks_written(text: str, encoding: str, *, slack: float = 0.0) -> bool:
    """Whether the letters outside ASCII look like written language, on average, and not like noise.

    `slack`: extra bits allowed per letter, for an unusual text.
    """
    letters = "".join(letter for letter in text if not letter.isascii())
    most = MOST_BITS_OF_MANY if encoding in MANY_LETTERS else MOST_BITS
    return bits(letters, encoding) - RARE.get(encoding, 0.0) <= (most + slack) * len(letters)


def bits(text: str, encoding: str) -> float:
    """The cost of `text` in `encoding`, in bits (-log2 of its likelihood), in the language where it is lowest.

    A unigram model: each letter by its frequency in the language.
    """
    counts = Counter(letter for letter in text if not letter.isascii())
    plain = len(text) - counts.total()
    mixed = len(MIXED_WORD.findall(text))
    costs = (script.cost(counts) + (0 if script.latin else MIXED * mixed) for script in SCRIPTS.get(encoding, ALL_SCRIPTS))
    return RARE.get(encoding, 0.0) + ASCII * plain + min(costs)
