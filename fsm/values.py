"""JSON values as hash-consed cells: what two texts spell is equal exactly when their cells have equal numbers.

This is how the items of an array are told apart (`uniqueItems`), whatever whitespace, order of keys, escapes or number
spellings they come in (JSON Schema Core 2020-12, §4.2.2: values are compared mathematically and as sets of members).
Only finished texts that the machine has admitted are read, so nothing is checked here.

    word      (VALUE, WORD, its first byte)
    number    (VALUE, NUMBER, TEXT of its significant digits, exponent, 1 if negative)       0 has no digits
    string    (VALUE, STRING, TEXT of its UTF-8)
    array     (VALUE, ARRAY, array of the items before, item)                                [] has neither
    object    (VALUE, OBJECT, object of the members before, TEXT of the key, value)          {} has none of them

The members of an object are folded in the order of their keys' cells, so that any order of keys is one value.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fsm.cells import intern
from fsm.layout import NIL, TEXT, VALUE

WORD, NUMBER, STRING, ARRAY, OBJECT = 1, 2, 3, 4, 5

_QUOTE, _BACKSLASH, _MINUS, _POINT, _ZERO = 0x22, 0x5C, 0x2D, 0x2E, 0x30


@njit
def _hex4(text, at):
    """The number that four hexadecimal digits spell."""
    value = 0
    for i in range(at, at + 4):
        digit = np.int32(text[i])
        value = 16 * value + (digit & 15) + (9 if digit > 0x39 else 0)
    return value


@njit
def _append(H, text, byte):
    return intern(H, TEXT, text, byte, 0, 0, 0, 0, 0, True)


@njit
def _append_point(H, text, point):
    """A code point in UTF-8; -1 when there is no room."""
    if point < 0x80:
        return _append(H, text, point)
    if point < 0x800:
        text = _append(H, text, 0xC0 | point >> 6)
    else:
        if point < 0x10000:
            text = _append(H, text, 0xE0 | point >> 12)
        else:
            text = _append(H, text, 0xF0 | point >> 18)
            if text >= 0:
                text = _append(H, text, 0x80 | (point >> 12 & 63))
        if text >= 0:
            text = _append(H, text, 0x80 | (point >> 6 & 63))
    return _append(H, text, 0x80 | (point & 63)) if text >= 0 else text


@njit
def _read_string(H, text, at):
    """(TEXT of the string that begins after ``at - 1``, where it has ended); the cell is -1 when there is no room."""
    cell = np.int32(NIL)
    while text[at] != _QUOTE:
        byte = np.int32(text[at])
        at += 1
        if byte != _BACKSLASH:
            cell = _append(H, cell, byte)
        else:
            escape = np.int32(text[at])
            at += 1
            if escape == 0x75:  # \uXXXX, or two of them beyond the basic plane
                point = _hex4(text, at)
                at += 4
                if 0xD800 <= point < 0xDC00:
                    point = 0x10000 + ((point - 0xD800) << 10) + _hex4(text, at + 2) - 0xDC00
                    at += 6
                cell = _append_point(H, cell, np.int32(point))
            else:
                if escape == 0x62:
                    escape = np.int32(0x08)
                elif escape == 0x66:
                    escape = np.int32(0x0C)
                elif escape == 0x6E:
                    escape = np.int32(0x0A)
                elif escape == 0x72:
                    escape = np.int32(0x0D)
                elif escape == 0x74:
                    escape = np.int32(0x09)
                cell = _append(H, cell, escape)
        if cell < 0:
            return cell, at
    return cell, at + 1


@njit
def _read_number(H, text, at, n):
    """(cell of the number at ``at``, where it has ended)."""
    negative = np.int32(0)
    if text[at] == _MINUS:
        negative = np.int32(1)
        at += 1
    exponent = np.int32(0)
    zeros = 0  # digits 0 that count only if another digit follows
    digits = np.int32(NIL)
    behind = False
    while at < n and (text[at] == _POINT or 0x30 <= text[at] <= 0x39):
        byte = np.int32(text[at])
        at += 1
        if byte == _POINT:
            behind = True
            continue
        if behind:
            exponent -= 1
        if byte == _ZERO:
            zeros += 1 if digits != NIL else 0
            continue
        for _ in range(zeros):
            digits = _append(H, digits, _ZERO)
            if digits < 0:
                return digits, at
        zeros = 0
        digits = _append(H, digits, byte)
        if digits < 0:
            return digits, at
    if at < n and (text[at] == 0x65 or text[at] == 0x45):
        at += 1
        sign = 1
        if text[at] == _MINUS or text[at] == 0x2B:
            sign = -1 if text[at] == _MINUS else 1
            at += 1
        power = 0
        while at < n and 0x30 <= text[at] <= 0x39:
            power = 10 * power + np.int32(text[at]) - _ZERO
            at += 1
        exponent += sign * power
    if digits == NIL:
        return intern(H, VALUE, NUMBER, NIL, 0, 0, 0, 0, 0, True), at
    return intern(H, VALUE, NUMBER, digits, exponent + zeros, negative, 0, 0, 0, True), at


@njit
def _fold_members(H, keys, values, first, last):
    """The object of members [first, last); -1 when there is no room."""
    for i in range(first + 1, last):
        key, value = keys[i], values[i]
        k = i - 1
        while k >= first and keys[k] > key:
            keys[k + 1], values[k + 1] = keys[k], values[k]
            k -= 1
        keys[k + 1], values[k + 1] = key, value
    cell = intern(H, VALUE, OBJECT, 0, 0, 0, 0, 0, 0, True)
    for i in range(first, last):
        if cell < 0:
            return cell
        cell = intern(H, VALUE, OBJECT, cell, keys[i], values[i], 0, 0, 0, True)
    return cell


@njit
def read_value(H, text, n):
    """The VALUE cell of the JSON value that text[:n] spells (uint8); -1 when there is no room."""
    values = np.empty(n + 1, np.int32)  # open arrays and finished members, innermost last
    keys = np.empty(n + 1, np.int32)
    base = np.empty(n + 1, np.int32)  # by depth: where the members of the open object begin; -1 for an open array
    used, depth, at = 0, 0, 0
    key = np.int32(-1)
    cell = np.int32(-1)
    while at < n:
        byte = text[at]
        if byte <= 0x20 or byte == 0x2C or byte == 0x3A:  # whitespace, comma, colon
            at += 1
            continue
        if byte == 0x5B or byte == 0x7B:
            if depth > 0 and base[depth - 1] >= 0:
                keys[used] = key
                values[used] = -1  # its value follows
                used += 1
                key = np.int32(-1)
            base[depth] = -1 if byte == 0x5B else used
            if byte == 0x5B:
                values[used] = intern(H, VALUE, ARRAY, 0, 0, 0, 0, 0, 0, True)
                if values[used] < 0:
                    return np.int32(-1)
                used += 1
            depth += 1
            at += 1
            continue
        if byte == 0x5D or byte == 0x7D:
            depth -= 1
            at += 1
            if byte == 0x5D:
                used -= 1
                cell = values[used]
            else:
                cell = _fold_members(H, keys, values, base[depth], used)
                used = base[depth]
            if depth > 0 and base[depth - 1] >= 0:
                used -= 1
                key = keys[used]
        elif byte == _QUOTE:
            cell, at = _read_string(H, text, at + 1)
            if cell < 0:
                return cell
            if depth > 0 and base[depth - 1] >= 0 and key < 0:
                key = cell
                continue
            cell = intern(H, VALUE, STRING, cell, 0, 0, 0, 0, 0, True)
        elif byte == 0x74 or byte == 0x66 or byte == 0x6E:
            at += 5 if byte == 0x66 else 4
            cell = intern(H, VALUE, WORD, np.int32(byte), 0, 0, 0, 0, 0, True)
        else:
            cell, at = _read_number(H, text, at, n)
        if cell < 0:
            return cell
        if depth == 0:
            return cell
        if base[depth - 1] >= 0:
            keys[used], values[used] = key, cell
            used += 1
            key = np.int32(-1)
        else:
            values[used - 1] = intern(H, VALUE, ARRAY, values[used - 1], cell, 0, 0, 0, 0, True)
            if values[used - 1] < 0:
                return np.int32(-1)
    return cell


@njit("int32(int32[::1], uint8[::1])", nogil=True, cache=True)
def value_cell(H, text):
    """`read_value` of a whole text."""
    return read_value(H, text, len(text))
