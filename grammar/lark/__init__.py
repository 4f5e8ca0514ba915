"""Lark grammars as byte machines.

text ──source.py──▶ rules and terminals, by Lark's own loader
──programs.py, lexemes.py──▶ terminals as automata over bytes that know what a lexer prefers
──contextual.py──▶ which terminals may be shifted, which rules reduced
──machine.py──▶ states of the byte machine; the parser's stack is the machine's stack of frames
"""
