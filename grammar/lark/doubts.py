"""Whether a contextual parser might run into a corner, told from its parser states alone.

What may follow a token depends on the whole stack, and a token's shadow may forbid some of it. There is no doubt where
each shadow can be got rid of whatever the stack is: by ignored text, or by each of the tokens that the state behind has
a use for, one of which every stack allows in a LALR(1) table without conflicts. Where there is a doubt, or conflicts
have been settled, completion.py looks at the stacks.
"""

from __future__ import annotations

from grammar.lark.contextual import ContextualTable
from grammar.lark.lexemes import IGNORED, NO_SHADOW, Lexemes, Scanner, Shadow
from grammar.lark.machine import END_TOKEN


def doubtful(table: ContextualTable, lexemes: Lexemes) -> bool:
    """Whether the lexer may forbid what a stack asks for."""
    for state in table.items:
        if not table.terminals(state) <= lexemes.live(lexemes.start((table.scanner(state),))):
            return True
    sure: dict[tuple[int, Shadow], bool] = {}
    for state in table.items:
        for terminal, shadow in _cast(table.scanner(state), lexemes):
            for behind in (state,) if terminal == IGNORED else table.behind(state, terminal):
                if (behind, shadow) not in sure:
                    sure[behind, shadow] = _is_rid(table, lexemes, behind, shadow)
                if not sure[behind, shadow]:
                    return True
    return False


def _cast(scanner: Scanner, lexemes: Lexemes) -> set[tuple[str, Shadow]]:
    """The shadows that a scanner's tokens leave."""
    ends = [end for lexeme, _ in _walk(scanner, NO_SHADOW, lexemes) for end in lexemes.ends(lexeme)]
    return {(end.terminal, end.shadow) for end in ends if end.shadow != NO_SHADOW}


def _is_rid(table: ContextualTable, lexemes: Lexemes, state: int, shadow: Shadow) -> bool:
    """Whether every stack on which a parser state can be allows something that gets rid of a shadow."""
    rid = {
        end.terminal
        for lexeme, after in _walk(table.scanner(state), shadow, lexemes)
        if after == NO_SHADOW
        for end in lexemes.ends(lexeme)
    }
    if lexemes.may_end_text(shadow):
        rid.add(END_TOKEN)
    ends = {END_TOKEN} if state == table.end or END_TOKEN in table.expects(state) else set[str]()
    return IGNORED in rid or table.terminals(state) | ends <= rid


def _walk(scanner: Scanner, shadow: Shadow, lexemes: Lexemes) -> list[tuple[int, Shadow]]:
    """The lexemes that a scanner comes to under a shadow, each with what is left of it."""
    start = (lexemes.start((scanner,)), shadow)
    seen = {start}
    queue = [start]
    for lexeme, cast in queue:
        for _, _, following, after in lexemes.reading(lexeme, cast):
            if (following, after) not in seen:
                seen.add((following, after))
                queue.append((following, after))
    return queue
