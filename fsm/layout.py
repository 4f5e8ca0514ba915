"""The memory image of one program: where its tables lie in a single int32 heap.

One program, one array, so that a kernel that serves a batch over many programs needs one address a program, and
dropping a program frees everything it ever touched.

    heap = [ header | ST | ED | RG | SS | RT |            static: copies of what the grammar room wrote
                    | CE | CH | CR | DS | DH | MM ]       dynamic: written by the kernels of fsm/steps.py

    ST  states     (first edge, edge count or -1, end)                            3 ints each
    ED  edges      (lo, hi, op, t, a, b, c, unused)                               8 ints each
    RG  registers  (hi, lo, ext) of pushed frames                                 3 ints each
    SS  key sets   length word, then 32-bit words; id = offset of the first word
    RT  returns    open-addressing hash: (ret, verdict, state, used)              4 ints each
    CE  cells      hash-consed tuples of 8 ints, see below; the last SCRATCH cells are the kernels' scratch frames
    CH  cell hash  open addressing, cell + 1, 0 = empty
    CR  cell rows  row id of a configuration cell, -1 = not known yet, below: see fsm/masks.py
    DS  key sets made at run time; id = -2 - offset of the first word
    DH  their hash
    MM  steps made: (configuration, token, configuration after it, unused), where their hash says, 0 = none; the newest
        of those that share a place is kept                                       4 ints each

    frame          (height, ret, hi, lo, ext, seen, text, parent)      height 1 = the root frame
    CONFIG         (CONFIG, state, frame, record)                      its number is the token FSM's state id
    TEXT           (TEXT, parent text, byte or -1 - value)             text of an additional key or item; cell 0 = empty
    RECORD         (RECORD, parent record, byte, length)               bytes of a value being recorded; cell 0 = none is
    VALUE          (VALUE, kind, ...)                                  a JSON value (fsm/values.py)
    SEEN           (SEEN, text, rest)                                  set of key texts; cell 0 = empty
    KEY_FRAME      (KEY_FRAME, ret, hi, lo, ext, seen, text, below)    a frame as masks see it: counters saturated,
    KEY_CONFIG     (KEY_CONFIG, state, key frame, levels, shared, record)    frames below the consulted ones cut off

An LR machine (header PARSER is 1) has several heads in a configuration, and STACKS and UNION cells: fsm/heads.py,
fsm/stacks.py.
"""

from __future__ import annotations

from grammar.tables import MAX_HEADS as MAX_HEADS

(
    ST, N_ST, CAP_ST,
    ED, N_ED, CAP_ED,
    RG, N_RG, CAP_RG,
    SS, N_SS, CAP_SS,
    RT, N_RT, CAP_RT,
    CE, N_CE, CAP_CE,
    CH, CAP_CH,
    CR,
    DS, N_DS, CAP_DS,
    DH, N_DH, CAP_DH,
    MM, CAP_MM,
    SATURATE,
    COUNTED_SEEN,
    PARSER,
) = range(32)  # fmt: skip
HEADER = 32

SCRATCH = 1024
"""Scratch frames: a token of at most 255 bytes allocates at most four a byte."""

NIL = 0
ROOT_FRAME = 1
CONFIG, TEXT, SEEN, KEY_FRAME, KEY_CONFIG, STACKS, UNION, RECORD, VALUE = range(-2, -11, -1)

HEIGHT, RET, HI, LO, EXT, SEEN_KEYS, KEY_TEXT, PARENT = range(8)

MAX_TOKEN_BYTES = 255
