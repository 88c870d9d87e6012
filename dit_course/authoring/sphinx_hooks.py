"""What our pages ask of Sphinx beyond its own: formulas without a script, and docstrings in the course's style."""

import re


def setup(app) -> dict:
    """Called by Sphinx, which has this module among its extensions."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.connect("autodoc-process-docstring", rewrite_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


ITEM = re.compile(r"^((?:\*{0,2}[a-z_]\w*)(?:, \*{0,2}[a-z_]\w*)*): (?=\S)")


def rewrite_docstring(app, what, name, thing, options, lines: list[str]) -> None:
    """Docstrings as reStructuredText, in place: our lines `name: what it is` become a list, `code` becomes ``code``."""
    made: list[str] = []
    for line in lines:
        line = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line).replace("|", r"\|")
        item = ITEM.match(line)
        if item:
            if made and made[-1].strip() and not made[-1].startswith(("- ", "  ")):
                made.append("")
            line = f"- **{item[1]}**: {line[item.end() :]}"
        elif line.strip() and made and made[-1].startswith(("- ", "  ")):
            line = f"  {line.strip()}"  # goes on with its item
        made.append(line)
    lines[:] = made


def inline_math(visitor, node) -> None:
    """A formula within a line, as MathML."""
    _write_math(visitor, node, "inline")


def block_math(visitor, node) -> None:
    """A formula of its own, as MathML."""
    _write_math(visitor, node, "block")


def _write_math(visitor, node, display: str) -> None:
    from docutils import nodes
    from latex2mathml.converter import convert

    visitor.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode
