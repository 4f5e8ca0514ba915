"""Lark grammars as byte machines, in reading order:

dialect.py        what llguidance writes and Lark does not, rewritten
operators.py      ... and `&` and `~` between terminals
source.py         the text through Lark's own loader: rules and terminals
programs.py       terminals as programs that keep what Python's `re` prefers
lexemes.py        ... and as automata over bytes, with the shadows that ended tokens leave
machine.py        the byte machine; the parser's stack is the machine's stack of frames
contextual.py     Lark's LALR(1) table and its lexer
doubts.py         ... and whether its stacks must be looked at
exits.py          what a stack allows, to the end of the text
completion.py     the same parser, which looks at them
dynamic.py        all alternatives of the LR(0) automaton at once
corners.py        what must not be begun since it can never end
compile.py        all of it, from a constraint
"""
