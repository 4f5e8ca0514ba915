r"""The values of `format` as regular languages, for ``formats="assert"``. Patterns are ECMA-262 and match whole texts.

    date-time, date, time, duration    RFC 3339 §5.6 and appendix A; days that the calendar has, leap years included
    email, idn-email                   RFC 5321 §4.1.2 Mailbox; RFC 6531 §3.3
    hostname, idn-hostname             RFC 1123 §2.1; RFC 5890 §2.3.2
    ipv4, ipv6                         RFC 2673 §3.2; RFC 4291 §2.2
    uri, uri-reference, iri, ...       RFC 3986 appendix A; RFC 3987 §2.2
    uri-template                       RFC 6570 §2
    uuid                               RFC 4122 §3
    json-pointer, relative-...         RFC 6901 §3; draft-bhutton-relative-json-pointer-00 §3
    regex                              ECMA-262 §22.2.1

A format whose language is not regular, or on which its readers disagree, is narrowed: `Format.narrowed` says what is
left out. Such a format is never negated, since the complement of a subset would be a superset.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """``pattern`` matches the whole text; ``max_length`` in code points; ``narrowed``: the valid texts left out."""

    pattern: str
    max_length: int | None = None
    narrowed: str = ""


def _any_of(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


# -- dates and times ---------------------------------------------------------------------------------------------------

_NOT_YEAR_0 = "[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9]"
_FOURS = "0[48]|[2468][048]|[13579][26]"
"""Multiples of four with two digits, 00 left out."""
_LEAP_YEAR = f"[0-9]{{2}}(?:{_FOURS})|(?:{_FOURS})00"
_DAYS = _any_of(
    "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])",
    "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
    "02-(?:0[1-9]|1[0-9]|2[0-8])",
)
_DATE = f"(?:(?:{_NOT_YEAR_0})-{_DAYS}|(?:{_LEAP_YEAR})-02-29)"
_HOURS_MINUTES = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = f"{_HOURS_MINUTES}:[0-5][0-9](?:\\.[0-9]+)?(?:[Zz]|[+-]{_HOURS_MINUTES})"

_DAY_COUNT = "[0-9]+D"
_MONTH_COUNT = f"[0-9]+M(?:{_DAY_COUNT})?"
_YEAR_COUNT = f"[0-9]+Y(?:{_MONTH_COUNT})?"
_MINUTE_COUNT = "[0-9]+M(?:[0-9]+S)?"
_CLOCK = f"T(?:[0-9]+H(?:{_MINUTE_COUNT})?|{_MINUTE_COUNT}|[0-9]+S)"
_DURATION = f"P(?:(?:{_YEAR_COUNT}|{_MONTH_COUNT}|{_DAY_COUNT})(?:{_CLOCK})?|{_CLOCK}|[0-9]+W)"

# -- addresses ---------------------------------------------------------------------------------------------------------

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = f"{_OCTET}(?:\\.{_OCTET}){{3}}"
_H16 = "[0-9A-Fa-f]{1,4}"
_LS32 = f"(?:{_H16}:{_H16}|{_IPV4})"
_IPV6 = _any_of(
    f"(?:{_H16}:){{6}}{_LS32}",
    f"::(?:{_H16}:){{5}}{_LS32}",
    *(f"(?:(?:{_H16}:){{0,{n}}}{_H16})?::(?:{_H16}:){{{4 - n}}}{_LS32}" for n in range(5)),
    f"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}",
    f"(?:(?:{_H16}:){{0,6}}{_H16})?::",
)

# A label with hyphens in its third and fourth place is reserved (RFC 5890 §2.3.1): it would have to be valid Punycode.
_AN = "[A-Za-z0-9]"
_LDH = "[A-Za-z0-9-]"
_LABEL = _any_of(
    _AN,
    f"{_AN}{_AN}",
    f"{_AN}{_LDH}{_AN}",
    f"{_AN}{_LDH}(?:{_AN}{_LDH}|-{_AN}){_LDH}{{0,58}}{_AN}",
    f"{_AN}{_LDH}{{2}}{_AN}",
)
_HOSTNAME = f"{_LABEL}(?:\\.{_LABEL})*"
_PUNYCODE = "labels with hyphens in their third and fourth place"

# Letters that IDNA 2008 allows anywhere, all written from left to right; ten of them fit a label in Punycode.
_LETTER = "[a-z0-9ß-öø-ÿα-ωа-яぁ-ゖァ-ヺ一-鿿가-힣]"
_U_LABEL = f"{_LETTER}{{1,10}}"
_IDN_HOSTNAME = f"{_any_of(_LABEL, _U_LABEL)}(?:\\.{_any_of(_LABEL, _U_LABEL)})*"
_IDN_LABELS = "international labels beyond ten common letters"

_ATEXT = "A-Za-z0-9!#$%&'*+\\-/=?^_`{|}~"
_NOT_ASCII = "\u0080-\ud7ff\ue000-\U0010ffff"


def _mailbox(atext: str, quoted: str, host: str) -> str:
    local = f'(?:[{atext}]+(?:\\.[{atext}]+)*|"(?:[{quoted}]|\\\\[ -~])*")'
    return f"{local}@(?:{host}|\\[{_IPV4}\\])"


_LITERALS = "address literals other than IPv4"
_QTEXT = " !#-\\[\\]-~"

# -- URIs --------------------------------------------------------------------------------------------------------------

_SUB_DELIMS = "!$&'()*+,;="
_PERCENT = "%[0-9A-Fa-f]{2}"
_UCSCHAR = "\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef" + "".join(
    f"{chr(plane << 16 | (0x1000 if plane == 0xE else 0))}-{chr(plane << 16 | 0xFFFD)}" for plane in range(1, 0xF)
)
_IPRIVATE = "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"


def _uri(ucschar: str, iprivate: str) -> tuple[str, str]:
    """(absolute with optional fragment, any reference)"""
    free = "A-Za-z0-9\\-._~" + ucschar + _SUB_DELIMS

    def text(more: str) -> str:
        return f"(?:[{free}{more}]|{_PERCENT})"

    segments = f"(?:/{text(':@')}*)*"
    rootless = f"{text(':@')}+{segments}"
    host = f"(?:\\[(?:{_IPV6}|[vV][0-9A-Fa-f]+\\.[A-Za-z0-9\\-._~{_SUB_DELIMS}:]+)\\]|{text('')}*)"
    authority = f"(?:{text(':')}*@)?{host}(?::[0-9]*)?"
    rest = f"(?:\\?{text(':@/?' + iprivate)}*)?(?:#{text(':@/?')}*)?"
    below = f"//{authority}{segments}|/(?:{rootless})?"
    absolute = f"[A-Za-z][A-Za-z0-9+.\\-]*:(?:{below}|{rootless}|){rest}"
    relative = f"(?:{below}|{text('@')}+{segments}|){rest}"
    return _whole(absolute), _whole(f"{absolute}|{relative}")


_URI, _URI_REFERENCE = _uri("", "")
_IRI, _IRI_REFERENCE = _uri(_UCSCHAR, _IPRIVATE)

_VARCHAR = f"(?:[A-Za-z0-9_]|{_PERCENT})"
_VARSPEC = f"[A-Za-z0-9_](?:\\.?{_VARCHAR})*(?::[1-9][0-9]{{0,2}}|\\*)?"
_LITERAL = f"[!#$&-;=?-\\[\\]_a-z~{_UCSCHAR}{_IPRIVATE}]|{_PERCENT}"
_URI_TEMPLATE = f"(?:{_LITERAL}|\\{{[+#./;?&]?{_VARSPEC}(?:,{_VARSPEC})*\\}})*"

# -- pointers and expressions ------------------------------------------------------------------------------------------

_JSON_POINTER = "(?:/(?:[^~/]|~[01])*)*"


def _regular_expression(depth: int) -> str:
    """Alternatives of terms with groups up to ``depth`` levels deep, as ECMA-262 and most other engines read them."""
    group = f"|\\((?:\\?:)?{_regular_expression(depth - 1)}\\)" if depth else ""
    member = "[A-Za-z0-9_ .:/@]|\\\\[dDwWsSnrt\\\\\\].*+?/-]"
    atom = f"[A-Za-z0-9_ :;,<>=!@#%&\"'~`/-]|\\.|\\\\[dDwWsSnrt.*+?()\\[\\]{{}}|^$\\\\/]|\\[\\^?(?:{member})+\\]{group}"
    term = f"(?:{atom})(?:[*+?]\\??)?"
    return f"(?:\\^?(?:{term})*\\$?(?:\\|\\^?(?:{term})*\\$?)*)"


FORMATS: dict[str, Format] = {
    "date-time": Format(_whole(f"{_DATE}[Tt]{_TIME}"), narrowed="leap seconds and the year 0000"),
    "date": Format(_whole(_DATE), narrowed="the year 0000"),
    "time": Format(_whole(_TIME), narrowed="leap seconds"),
    "duration": Format(_whole(_DURATION)),
    "email": Format(_whole(_mailbox(_ATEXT, _QTEXT, _HOSTNAME)), narrowed=f"{_PUNYCODE}, and {_LITERALS}"),
    "idn-email": Format(
        _whole(_mailbox(_ATEXT + _NOT_ASCII, _QTEXT + _NOT_ASCII, _IDN_HOSTNAME)),
        narrowed=f"{_IDN_LABELS}, and {_LITERALS}",
    ),
    "hostname": Format(_whole(_HOSTNAME), 253, _PUNYCODE),
    "idn-hostname": Format(_whole(_IDN_HOSTNAME), 60, f"{_IDN_LABELS}, and names of more than 60 characters"),
    "ipv4": Format(_whole(_IPV4)),
    "ipv6": Format(_whole(_IPV6)),
    "uri": Format(_URI),
    "uri-reference": Format(_URI_REFERENCE),
    "iri": Format(_IRI),
    "iri-reference": Format(_IRI_REFERENCE),
    "uri-template": Format(
        _whole(_URI_TEMPLATE),
        narrowed="reserved operators, names that begin with a percent sign, and prefixes above 999",
    ),
    "uuid": Format("^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"),
    "json-pointer": Format(_whole(_JSON_POINTER)),
    "relative-json-pointer": Format(_whole(f"(?:0|[1-9][0-9]*)(?:#|{_JSON_POINTER})")),
    "regex": Format(_whole(_regular_expression(2)), narrowed="all but plain terms, classes and groups two deep"),
}
"""Formats that the specifications define. Any other is an annotation, as they ask (2020-12 Validation §7.2.3)."""

NARROWED: frozenset[str] = frozenset(form.pattern for form in FORMATS.values() if form.narrowed)
"""Patterns that stand for less than their format."""
