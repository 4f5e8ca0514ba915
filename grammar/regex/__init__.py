"""Regular expressions as byte machines.

    pattern ──python.py, ecma.py──▶ syntax.py (AST over code points) ──anchors.py──▶ AST without ^ and $
            ──terms.py, conjunction.py, window.py──▶ automaton over code points ──dfa.py, grammar/utf8.py──▶ DFA over
            bytes

`language.py` says which texts are asked for (one or several patterns, a length window) and `machine.py` writes the DFA
into a machine's tables.
"""
