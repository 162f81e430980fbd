"""SQL text to sqlglot's tree, and positions in that text for messages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from rayforest.errors import ConfigError

SqlNode: TypeAlias = exp.Expr
"""Any node of sqlglot's tree."""

MAX_NESTING = 32
"""Parentheses, calls and CASEs inside one another; sqlglot's parser needs about 25 Python frames for each."""
_MAX_CHARACTERS = 1_000_000
_OPENING = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE}
_CLOSING = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END}


@dataclass(frozen=True)
class SqlText:
    """One SQL text and the key that it stands under, such as "features.log_amount"."""

    where: str
    sql: str

    def error(
        self, what: str, at: SqlNode | Token | None = None, *, expected: str = "", found: str = "", next_step: str = ""
    ) -> ConfigError:
        """An error that names the key, and line, column and text of the place when it is known."""
        span = _span(at) if at is not None else None
        place = self._place(*span) if span else ""
        return ConfigError(
            f"{self.where}: {what}",
            expected=expected,
            found=f"{place} {found}".strip(),
            next_step=next_step,
        )

    def _place(self, start: int, end: int) -> str:
        line = self.sql.count("\n", 0, start) + 1
        column = start - (self.sql.rfind("\n", 0, start) + 1) + 1
        text = " ".join(self.sql[start : end + 1].split())
        if text.count("(") > text.count(")"):  # a function's position ends with its last argument
            text += ")"
        return f"line {line}, column {column}: {text if len(text) <= 60 else text[:57] + '...'}"

    def tree(self, columns: Collection[str]) -> SqlNode:
        """The text as sqlglot's tree; columns with a dot in their name may stand there without quotes.

        Raises:
            ConfigError: no expression, more than one, a syntax error, or too deep a nesting.
        """
        if not self.sql.strip():
            raise self.error(
                "there is no expression", expected="an SQL expression", next_step="write one, or remove the key"
            )
        if len(self.sql) > _MAX_CHARACTERS:
            raise self.error(
                "the expression is too long",
                expected=f"at most {_MAX_CHARACTERS} characters",
                found=f"{len(self.sql)} characters",
                next_step="split it into several columns or features",
            )
        dialect = DuckDB()
        try:
            tokens = dialect.tokenize(self.sql)
            self._check_nesting(tokens)
            tokens = self._join_dotted(tokens, columns)
            trees = dialect.parser().parse_into(exp.Condition, tokens, self.sql)
        except TokenError as error:
            raise self.error("this is not SQL", expected="closed quotes and comments", found=str(error)) from error
        except ParseError as error:
            raise self._syntax_error(error, tokens, columns) from error
        except RecursionError as error:
            raise self.too_deep() from error
        found = [tree for tree in trees if tree is not None]
        if len(found) != 1 or len(trees) != 1:
            raise self.error(
                "there must be one expression", expected="one expression", found=f"{len(found)}, separated by ';'"
            )
        return found[0]

    def too_deep(self) -> ConfigError:
        return self.error(
            "the expression is nested too deeply",
            expected=f"at most {MAX_NESTING} parentheses, calls or CASEs inside one another, 200 terms or arms",
            next_step="split it into several columns or features",
        )

    def _check_nesting(self, tokens: list[Token]) -> None:
        depth = 0
        for token in tokens:
            depth += (token.token_type in _OPENING) - (token.token_type in _CLOSING)
            if depth > MAX_NESTING:
                raise self.too_deep()

    def _join_dotted(self, tokens: list[Token], columns: Collection[str]) -> list[Token]:
        """Neighbouring tokens that spell a column with dots (emp.var.rate, PM2.5) become one quoted identifier."""
        # Longest first, so that "a.b.c" is not taken for the column "a.b" and a field.
        dotted = sorted((name for name in columns if "." in name), key=len, reverse=True)
        joined: list[Token] = []
        position = 0
        while position < len(tokens):
            first = tokens[position]
            last = next((end for name in dotted if (end := self._spells(tokens, position, name)) is not None), None)
            if last is None:
                joined.append(first)
                position += 1
            else:
                text = self.sql[first.start : tokens[last].end + 1]
                joined.append(
                    Token(
                        TokenType.IDENTIFIER,
                        text,
                        line=first.line,
                        col=tokens[last].col,
                        start=first.start,
                        end=tokens[last].end,
                    )
                )
                position = last + 1
        return joined

    def _spells(self, tokens: list[Token], position: int, name: str) -> int | None:
        """Index of the last of the tokens from `position` on whose text is exactly the name, if they are."""
        start = tokens[position].start
        stop = start + len(name)
        if self.sql[start:stop].lower() != name.lower() or tokens[position].token_type == TokenType.IDENTIFIER:
            return None
        last = next((index for index in range(position, len(tokens)) if tokens[index].end == stop - 1), None)
        if last is None:
            return None
        follower = tokens[last + 1] if last + 1 < len(tokens) else None
        longer = follower is not None and follower.start == stop and follower.token_type == TokenType.DOT
        return None if longer else last

    def _syntax_error(self, error: ParseError, tokens: list[Token], columns: Collection[str]) -> ConfigError:
        detail = error.errors[0] if error.errors else {}
        line, column = detail.get("line"), detail.get("col")
        token = next((t for t in tokens if t.line == line and t.col == column), None)
        names = {name.lower() for name in columns}
        awkward = [
            t.text
            for t in tokens
            if t.text.lower() in names and t.token_type not in (TokenType.VAR, TokenType.IDENTIFIER)
        ]
        if awkward:
            hint = f'a column whose name is also an SQL word goes in double quotes: "{awkward[0]}"'
        else:
            hint = "columns with spaces or signs in their name go in double quotes, text in single quotes"
        description = str(detail.get("description") or "syntax error")
        if description.startswith("Required keyword"):
            description = "an argument is missing"
        return self.error(
            "this is not an SQL expression",
            token,
            expected="an SQL expression",
            found=f"({description.lower()})",
            next_step=hint,
        )


def _span(at: SqlNode | Token) -> tuple[int, int] | None:
    """First and last character that a token, or a tree as far as its leaves know, covers."""
    if isinstance(at, Token):
        return at.start, at.end
    # The parameters that the dialect fills in for a bare DECIMAL have positions that mean nothing.
    nodes = [node for node in at.walk() if "start" in node.meta and not isinstance(node.parent, exp.DataTypeParam)]
    spans = [(node.meta["start"], node.meta["end"]) for node in nodes]
    return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else None
